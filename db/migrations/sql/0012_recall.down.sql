-- Back to a search that counts first, and looks less far.

SELECT '[1]'::vector;
DO $$
DECLARE
    known text := pg_get_functiondef('knowledge.search'::regproc);
BEGIN
    EXECUTE replace(replace(known, $q$search.uploaded_before, search.curated;
        END IF;
        near :=$q$, $q$search.uploaded_before, search.curated;
        near :=$q$), $q$        reach := CASE WHEN num_nonnulls(search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
            search.uploaded_before, search.curated) = 0 THEN (SELECT sum(t.chunk_count) FROM knowledge.term_totals t WHERE t.tenant_id = search.tenant) END;
        IF COALESCE(reach, 0) <= few THEN
$q$, '');
END
$$;
ALTER FUNCTION knowledge.search SET hnsw.ef_search = 100;
