-- A search by vectors that finds what it should among a million: measured, docs/performance.md.

-- Loads pgvector's library, which alone knows the settings that the function names.
SELECT '[1]'::vector;

-- The same function, but that it does not count what a tenant has where nothing is filtered and it is more than a few.
DO $$
DECLARE
    known text := pg_get_functiondef('knowledge.search'::regproc);
    first text := replace(known, $q$        EXECUTE format('SELECT count(*) FROM$q$, $q$        reach := CASE WHEN num_nonnulls(search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
            search.uploaded_before, search.curated) = 0 THEN (SELECT sum(t.chunk_count) FROM knowledge.term_totals t WHERE t.tenant_id = search.tenant) END;
        IF COALESCE(reach, 0) <= few THEN
        EXECUTE format('SELECT count(*) FROM$q$);
    second text := replace(first, $q$search.uploaded_before, search.curated;
        near :=$q$, $q$search.uploaded_before, search.curated;
        END IF;
        near :=$q$);
BEGIN
    ASSERT first <> known AND second <> first, 'knowledge.search does not count';
    EXECUTE second;
END
$$;
ALTER FUNCTION knowledge.search SET hnsw.ef_search = 300;
