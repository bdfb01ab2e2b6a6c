-- The graph that a search by vectors walks is built more carefully: 64 of its neighbours' neighbours were looked at for each
-- vector, now 128. Of a million vectors a tenth of the nearest could not be reached before. Figures: docs/performance.md.

DO $$
DECLARE
    graph regclass;
BEGIN
    EXECUTE replace(pg_get_functiondef('knowledge.create_space'::regproc),
        $q$%s_cosine_ops)'$q$, $q$%s_cosine_ops) WITH (ef_construction = 128)'$q$);
    -- What is there already counts for what is inserted from now on, and for all when it is rebuilt.
    FOR graph IN SELECT i.indexrelid FROM pg_inherits h JOIN pg_index i ON i.indrelid = h.inhrelid
            JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
            WHERE h.inhparent = 'knowledge.chunk_vectors'::regclass AND a.amname = 'hnsw' LOOP
        EXECUTE format('ALTER INDEX %s SET (ef_construction = 128)', graph);
    END LOOP;
END
$$;
