-- Back to a graph as pgvector builds it by itself.

DO $$
DECLARE
    graph regclass;
BEGIN
    EXECUTE replace(pg_get_functiondef('knowledge.create_space'::regproc),
        $q$%s_cosine_ops) WITH (ef_construction = 128)'$q$, $q$%s_cosine_ops)'$q$);
    FOR graph IN SELECT i.indexrelid FROM pg_inherits h JOIN pg_index i ON i.indrelid = h.inhrelid
            JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
            WHERE h.inhparent = 'knowledge.chunk_vectors'::regclass AND a.amname = 'hnsw' LOOP
        EXECUTE format('ALTER INDEX %s RESET (ef_construction)', graph);
    END LOOP;
END
$$;
