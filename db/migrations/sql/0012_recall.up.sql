-- A search by vectors that finds what it should among a million: it looks further than before, and does not count what a tenant has
-- where nothing is filtered. Figures: docs/performance.md.

-- Loads pgvector's library, which alone knows the settings that the function names.
SELECT '[1]'::vector;

-- Search one tenant's chunks by vectors in `space` (HNSW, cosine), by words (BM25), or by both. Takes the tenant explicitly and
-- runs as the owner, because array operators are not leakproof and row security would keep their index from being used;
-- a session bound to one tenant gets no other. Where tenant and filters leave few chunks, their vectors are all compared:
-- exact, and cheaper than the index, which is gone through in the order of distance until enough of them have passed.
-- Both cost the same where the square of what is left is some hundred times of all that there is: measured, ADR 0007.
--
-- `similarity` is the cosine similarity, `words` BM25; both for every hit that has them. `score` is the one that
-- `strategy` goes by; for 'hybrid' half of each, scaled to 0..1 over what was found by either. `highlight` is the part of the text
-- that shows the query's words, each of them between U+0002 and U+0003.
CREATE OR REPLACE FUNCTION knowledge.search(tenant uuid, query_text text, query_vector vector, space uuid, strategy text DEFAULT 'hybrid',
        "limit" integer DEFAULT 10, collection uuid DEFAULT NULL, persona uuid DEFAULT NULL, documents uuid[] DEFAULT NULL,
        metadata jsonb DEFAULT NULL, uploaded_from timestamptz DEFAULT NULL, uploaded_before timestamptz DEFAULT NULL,
        curated boolean DEFAULT NULL, candidates integer DEFAULT 50)
    RETURNS TABLE (chunk_id uuid, document_id uuid, document_name text, chunk_index integer, page integer, section text,
        text text, score double precision, similarity double precision, words double precision, highlight text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 400 SET hnsw.max_scan_tuples = 40000 AS $$
#variable_conflict use_column
DECLARE
    by_vectors CONSTANT boolean := search.strategy IN ('hybrid', 'vector');
    by_words CONSTANT boolean := search.strategy IN ('hybrid', 'lexical');
    -- The chunks that may be shown: of the version that readers see, of documents that pass the filters.
    shown CONSTANT text := $q$knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
        AND c.tenant_id = $1 AND d.tenant_id = $1 AND ($2 IS NULL OR c.collection_id = $2) AND ($3 IS NULL OR c.persona_id = $3)
        AND ($4 IS NULL OR d.id = ANY ($4)) AND ($5 IS NULL OR d.metadata @> $5) AND ($6 IS NULL OR d.uploaded_at >= $6)
        AND ($7 IS NULL OR d.uploaded_at < $7) AND ($8 IS NULL OR c.is_curated = $8)$q$;
    nothing CONSTANT text := 'SELECT NULL::uuid AS id WHERE false';
    near text := nothing;
    said text := nothing;
    distance text;
    few bigint;
    reach bigint;
    terms record;
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM search.tenant THEN
        RAISE EXCEPTION 'search of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    IF NOT (by_vectors OR by_words) THEN
        RAISE EXCEPTION 'unknown strategy %', search.strategy USING ERRCODE = '22023', HINT = 'One of hybrid, vector, lexical.';
    END IF;
    -- The cast to the space's dimensions has to stand in the query as it stands in the index.
    SELECT format('v.embedding::%1$s(%2$s) <=> $9::%1$s(%2$s)', s.precision, m.dimensions)
    INTO distance FROM knowledge.spaces s JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.id = search.space;
    IF distance IS NULL THEN
        IF by_vectors THEN
            RAISE EXCEPTION 'no space %', search.space USING ERRCODE = '22023', HINT = 'Spaces stand in knowledge.spaces.';
        END IF;
        distance := 'NULL::double precision';
    END IF;
    SELECT * INTO terms FROM knowledge.query_terms(search.tenant, search.query_text);
    IF by_vectors THEN
        few := (SELECT least(greatest(sqrt(100 * sum(t.chunk_count)), 1000), 20000) FROM knowledge.term_totals t);
        IF num_nonnulls(search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
                search.uploaded_before, search.curated) = 0 THEN
            reach := (SELECT sum(t.chunk_count) FROM knowledge.term_totals t WHERE t.tenant_id = search.tenant);
        END IF;
        IF COALESCE(reach, 0) <= few THEN  -- known to be more without counting, where nothing is filtered
            EXECUTE format('SELECT count(*) FROM (SELECT FROM knowledge.chunks c JOIN %s LIMIT %s) AS counted', shown, few + 1) INTO reach
            USING search.tenant, search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
                search.uploaded_before, search.curated;
        END IF;
        near := CASE WHEN reach > few THEN format(
            'SELECT c.id FROM knowledge.chunk_vectors v JOIN knowledge.chunks c ON c.id = v.chunk_id JOIN %s '
            'WHERE v.space_id = %L AND v.tenant_id = $1 ORDER BY %s LIMIT greatest($12, $13)', shown, search.space, distance)
        ELSE format(
            'SELECT w.id FROM (SELECT c.id FROM knowledge.chunks c JOIN %s OFFSET 0) AS w JOIN knowledge.chunk_vectors v ON v.chunk_id = w.id '
            'WHERE v.space_id = %L ORDER BY (%s) + 0 LIMIT greatest($12, $13)', shown, search.space, distance) END;
    END IF;
    IF by_words THEN
        said := format(
            'SELECT c.id FROM knowledge.chunk_terms t JOIN knowledge.chunks c ON c.id = t.chunk_id JOIN %s '
            'WHERE t.tenant_id = $1 AND t.keys && $10 ORDER BY t.weights <#> $11, c.id LIMIT greatest($12, $13)', shown);
    END IF;
    RETURN QUERY EXECUTE format($q$
        WITH near AS MATERIALIZED (%s), said AS MATERIALIZED (%s), measured AS (
            SELECT p.id, 1 - (%s) AS similarity, -(t.weights <#> $11) AS words
            FROM (SELECT id FROM near UNION SELECT id FROM said) AS p
            LEFT JOIN knowledge.chunk_vectors v ON v.space_id = %L AND v.chunk_id = p.id
            LEFT JOIN knowledge.chunk_terms t ON t.chunk_id = p.id
        ), scaled AS (
            SELECT m.*, COALESCE((m.similarity - min(m.similarity) OVER ()) / NULLIF(max(m.similarity) OVER () - min(m.similarity) OVER (), 0),
                sign(m.similarity), 0) AS meant, COALESCE(m.words / NULLIF(max(m.words) OVER (), 0), 0) AS said
            FROM measured m
        ), best AS (
            SELECT s.id, s.similarity, s.words,
                CASE $14 WHEN 'hybrid' THEN (s.meant + s.said) / 2 WHEN 'vector' THEN s.similarity ELSE s.words END AS score
            FROM scaled s ORDER BY score DESC NULLS LAST, s.id LIMIT $13
        )
        SELECT c.id, c.document_id, d.name, c.chunk_index, c.page, c.section, c.text, b.score, b.similarity, b.words,
            ts_headline(t.language::regconfig, c.text, replace(plainto_tsquery(t.language::regconfig, $15)::text, '&', '|')::tsquery,
                E'StartSel=\x02, StopSel=\x03, MaxFragments=2, MinWords=12, MaxWords=28, FragmentDelimiter=" \u2026 "')
        FROM best b JOIN knowledge.chunks c ON c.id = b.id JOIN knowledge.documents d ON d.id = c.document_id
        JOIN knowledge.chunk_terms t ON t.chunk_id = c.id
        ORDER BY b.score DESC NULLS LAST, c.id
        $q$, near, said, distance, search.space)
    USING search.tenant, search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
        search.uploaded_before, search.curated, search.query_vector, terms.keys, terms.rarity, search.candidates, search."limit",
        search.strategy, search.query_text;
END
$$;
