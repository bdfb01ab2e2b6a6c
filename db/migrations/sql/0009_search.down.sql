-- Back to full text by ts_rank, without filters, headers and languages.

DROP FUNCTION knowledge.search(uuid, text, vector, uuid, text, integer, uuid, uuid, uuid[], jsonb, timestamptz, timestamptz, boolean, integer);
DROP FUNCTION knowledge.query_terms;
DROP TRIGGER add_terms ON knowledge.chunks;
DROP TABLE knowledge.chunk_terms, knowledge.term_statistics, knowledge.term_totals, knowledge.term_changes;
DROP FUNCTION knowledge.count_terms, knowledge.add_terms, knowledge.note_terms, knowledge.weigh, knowledge.term_key;

GRANT UPDATE ON knowledge.chunks TO greenroom_worker, greenroom_system, greenroom_operator;
ALTER TABLE knowledge.documents DROP COLUMN language;
DROP INDEX knowledge.documents_metadata_idx, knowledge.chunks_curated_idx;
ALTER TABLE knowledge.chunks DROP COLUMN header;
ALTER TABLE knowledge.chunks ADD COLUMN lexemes tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', text)) STORED;
CREATE INDEX chunks_lexemes_idx ON knowledge.chunks USING gin (lexemes);

-- Loads pgvector's library, which alone knows the settings that the next function names.
SELECT '[1]'::vector;

-- Search one tenant's chunks in the active space: HNSW cosine and full text, fused by reciprocal rank (Cormack, Clarke,
-- Büttcher, SIGIR 2009; k = 60). Takes the tenant explicitly and runs as the owner, because the full-text operator is not
-- leakproof and row security would keep its index from being used; a session bound to one tenant gets no other.
-- `score` is the fused score, `similarity` the cosine similarity (NULL where only the words matched).
CREATE FUNCTION knowledge.search(tenant uuid, query_text text, query_vector vector, "limit" integer DEFAULT 10,
        collection uuid DEFAULT NULL, persona uuid DEFAULT NULL, candidates integer DEFAULT 50)
    RETURNS TABLE (chunk_id uuid, document_id uuid, document_name text, chunk_index integer, page integer, section text,
        text text, score double precision, similarity double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100 AS $$
#variable_conflict use_column
DECLARE
    space uuid;
    dimensions integer;
    indexed text;
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM search.tenant THEN
        RAISE EXCEPTION 'search of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    SELECT s.id, m.dimensions INTO space, dimensions
    FROM knowledge.spaces s JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.kind = 'chunks' AND s.is_active;
    indexed := CASE WHEN dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
    -- The cast to the space's dimensions has to stand in the query as it stands in the index.
    RETURN QUERY EXECUTE format($q$
        WITH near AS MATERIALIZED (
            SELECT c.id, 1 - (v.embedding::%1$s(%2$s) <=> $3::%1$s(%2$s)) AS similarity
            FROM knowledge.chunk_vectors v
            JOIN knowledge.chunks c ON c.id = v.chunk_id
            JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
            WHERE v.space_id = %3$L AND v.tenant_id = $1 AND c.tenant_id = $1
                AND ($4 IS NULL OR c.collection_id = $4) AND ($5 IS NULL OR c.persona_id = $5)
            ORDER BY v.embedding::%1$s(%2$s) <=> $3::%1$s(%2$s) LIMIT $6
        ), near_ranked AS (
            SELECT id, similarity, row_number() OVER (ORDER BY similarity DESC) AS place FROM near
        ), words AS MATERIALIZED (
            SELECT c.id, ts_rank(c.lexemes, q.query, 1) AS weight
            FROM (SELECT NULLIF(replace(plainto_tsquery('english', $2)::text, '&', '|'), '')::tsquery AS query) q
            JOIN knowledge.chunks c ON c.lexemes @@ q.query
            JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
            WHERE c.tenant_id = $1 AND ($4 IS NULL OR c.collection_id = $4) AND ($5 IS NULL OR c.persona_id = $5)
            ORDER BY weight DESC, c.id LIMIT $6
        ), words_ranked AS (
            SELECT id, row_number() OVER (ORDER BY weight DESC, id) AS place FROM words
        ), fused AS (
            SELECT id, n.similarity, COALESCE(1.0 / (60 + n.place), 0) + COALESCE(1.0 / (60 + w.place), 0) AS score
            FROM near_ranked n FULL JOIN words_ranked w USING (id)
            ORDER BY score DESC, id LIMIT $7
        )
        SELECT c.id, c.document_id, d.name, c.chunk_index, c.page, c.section, c.text, f.score::double precision, f.similarity
        FROM fused f JOIN knowledge.chunks c ON c.id = f.id JOIN knowledge.documents d ON d.id = c.document_id
        ORDER BY f.score DESC, c.id
        $q$, indexed, dimensions, space)
    USING search.tenant, search.query_text, search.query_vector, search.collection, search.persona, search.candidates, search."limit";
END
$$;

REVOKE EXECUTE ON FUNCTION knowledge.search FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.search TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
