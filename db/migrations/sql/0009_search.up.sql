-- Search: the lexical side scores by BM25, hits can be filtered, each chunk is found with its header, in its language.

-- ---------------------------------------------------------------------------------------------------- documents and chunks

-- The name of a text search configuration: how the document's words are reduced to lexemes.
ALTER TABLE knowledge.documents ADD COLUMN language text NOT NULL DEFAULT 'english' CHECK (length(language) BETWEEN 1 AND 63);
-- Title and section above a chunk. It is embedded and searched with the text, and no part of the document's text.
ALTER TABLE knowledge.chunks ADD COLUMN header text NOT NULL DEFAULT '' CHECK (length(header) <= 2000);
ALTER TABLE knowledge.chunks DROP COLUMN lexemes;
CREATE INDEX chunks_curated_idx ON knowledge.chunks (tenant_id) WHERE is_curated;
CREATE INDEX documents_metadata_idx ON knowledge.documents USING gin (metadata jsonb_path_ops);

-- ---------------------------------------------------------------------------------------------------- terms

-- A term of a tenant as a number, for which an array and a sparse vector have room: two terms of a tenant with 100,000
-- share one in about ten cases, which costs a little of their rarity. Postgres' own hash partitioning relies on the same
-- function staying as it is.
CREATE FUNCTION knowledge.term_key(tenant uuid, lexeme text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1 + (hashtextextended(lexeme, hashtextextended(tenant::text, 0)) & 536870911)::integer
$$;

-- What the lexical side searches, kept by trigger. `weights` holds, by key, how much a term of the query is worth here before
-- its rarity is known: BM25's term frequency, saturated and normalised by length (Robertson, Zaragoza: The Probabilistic
-- Relevance Framework, 2009; k1 = 1.2, b = 0.75), by the average length of the tenant's chunks at the time of writing.
CREATE TABLE knowledge.chunk_terms (
    chunk_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    language text NOT NULL,
    term_count integer NOT NULL CHECK (term_count >= 0),
    keys integer[] NOT NULL,
    weights sparsevec(536870912) NOT NULL,
    FOREIGN KEY (chunk_id, tenant_id) REFERENCES knowledge.chunks (id, tenant_id) ON DELETE CASCADE
);

-- How many of a tenant's chunks hold a term, and how many chunks and terms there are. Both lag behind by what stands in
-- term_changes: counting in place would have all ingests of a tenant wait for each other at its most common words.
CREATE TABLE knowledge.term_statistics (
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    key integer NOT NULL,
    chunk_count integer NOT NULL,
    PRIMARY KEY (tenant_id, key)
) WITH (fillfactor = 80);
CREATE INDEX term_statistics_gone_idx ON knowledge.term_statistics (tenant_id) WHERE chunk_count <= 0;
CREATE TABLE knowledge.term_totals (
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    language text NOT NULL,
    chunk_count bigint NOT NULL,
    term_count bigint NOT NULL,
    PRIMARY KEY (tenant_id, language)
);
CREATE TABLE knowledge.term_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    language text NOT NULL,
    chunk_count integer NOT NULL,
    term_count bigint NOT NULL,
    keys integer[] NOT NULL,
    counts integer[] NOT NULL
);
CREATE INDEX term_changes_tenant_id_idx ON knowledge.term_changes (tenant_id, id);

-- A text's terms as they are stored. `average` is the average number of terms of a chunk.
CREATE FUNCTION knowledge.weigh(tenant uuid, lexemes tsvector, average double precision, OUT term_count integer, OUT keys integer[],
        OUT weights sparsevec) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH terms AS MATERIALIZED (
        SELECT knowledge.term_key(tenant, t.lexeme) AS key, sum(cardinality(t.positions))::integer AS frequency
        FROM unnest(lexemes) AS t GROUP BY 1
    ), length AS (
        SELECT COALESCE(sum(frequency), 0)::integer AS terms FROM terms
    ), weighed AS (
        SELECT t.key, (t.frequency * 2.2 / (t.frequency + 1.2 * (0.25 + 0.75 * l.terms / greatest(average, 1))))::real AS weight
        FROM terms t, length l
    )
    SELECT (SELECT terms FROM length), COALESCE(array_agg(w.key ORDER BY w.key), '{}'),
        ('{' || COALESCE(string_agg(w.key || ':' || w.weight, ','), '') || '}/536870912')::sparsevec
    FROM weighed w
$$;

CREATE FUNCTION knowledge.add_terms() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    WITH lexemes AS MATERIALIZED (
        SELECT c.id, c.tenant_id, d.language, to_tsvector(d.language::regconfig, c.header || E'\n' || c.text) AS lexemes
        FROM added c JOIN knowledge.documents d ON d.id = c.document_id
    ), average AS (
        SELECT l.tenant_id, COALESCE(
            (SELECT sum(t.term_count)::double precision / NULLIF(sum(t.chunk_count), 0) FROM knowledge.term_totals t
             WHERE t.tenant_id = l.tenant_id),
            avg((SELECT sum(cardinality(u.positions)) FROM unnest(l.lexemes) AS u))) AS terms
        FROM lexemes l GROUP BY l.tenant_id
    )
    INSERT INTO knowledge.chunk_terms (chunk_id, tenant_id, language, term_count, keys, weights)
    SELECT l.id, l.tenant_id, l.language, w.term_count, w.keys, w.weights
    FROM lexemes l JOIN average a ON a.tenant_id = l.tenant_id, LATERAL knowledge.weigh(l.tenant_id, l.lexemes, a.terms) AS w;
    RETURN NULL;
END
$$;
CREATE TRIGGER add_terms AFTER INSERT ON knowledge.chunks REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION knowledge.add_terms();

-- Chunks come and go by insert, by delete and by cascade: each of them counts.
CREATE FUNCTION knowledge.note_terms() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO knowledge.term_changes (tenant_id, language, chunk_count, term_count, keys, counts)
    SELECT w.tenant_id, w.language, sign * w.chunks, sign * w.terms, COALESCE(t.keys, '{}'), COALESCE(t.counts, '{}')
    FROM (
        SELECT c.tenant_id, c.language, count(*) AS chunks, sum(c.term_count) AS terms FROM changed c
        WHERE EXISTS (SELECT FROM identity.tenants t WHERE t.id = c.tenant_id) -- they may go because it does
        GROUP BY c.tenant_id, c.language
    ) AS w LEFT JOIN (
        SELECT k.tenant_id, k.language, array_agg(k.key) AS keys, array_agg(sign * k.chunks) AS counts FROM (
            SELECT c.tenant_id, c.language, u.key, count(*)::integer AS chunks FROM changed c, unnest(c.keys) AS u (key)
            GROUP BY c.tenant_id, c.language, u.key
        ) AS k GROUP BY k.tenant_id, k.language
    ) AS t ON t.tenant_id = w.tenant_id AND t.language = w.language;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_removed AFTER DELETE ON knowledge.chunk_terms REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION knowledge.note_terms();

-- Add up to a thousand changes to a tenant's statistics, oldest first, so that no chunk goes before it came; returns how many.
-- Whoever comes second waits for the first.
CREATE FUNCTION knowledge.count_terms(tenant uuid) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken integer;
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM tenant THEN
        RAISE EXCEPTION 'terms of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('terms ' || tenant::text, 0));
    WITH gone AS (
        DELETE FROM knowledge.term_changes c
        WHERE c.id IN (SELECT o.id FROM knowledge.term_changes o WHERE o.tenant_id = tenant ORDER BY o.id LIMIT 1000) RETURNING *
    ), terms AS (
        SELECT u.key, sum(u.chunks)::integer AS chunks FROM gone, unnest(gone.keys, gone.counts) AS u (key, chunks) GROUP BY u.key
    ), counted AS (
        INSERT INTO knowledge.term_statistics AS s (tenant_id, key, chunk_count)
        SELECT tenant, t.key, t.chunks FROM terms t WHERE t.chunks <> 0
        ON CONFLICT (tenant_id, key) DO UPDATE SET chunk_count = s.chunk_count + EXCLUDED.chunk_count
    ), totals AS (
        INSERT INTO knowledge.term_totals AS s (tenant_id, language, chunk_count, term_count)
        SELECT tenant, g.language, sum(g.chunk_count), sum(g.term_count) FROM gone g GROUP BY g.language
        ON CONFLICT (tenant_id, language) DO UPDATE SET chunk_count = s.chunk_count + EXCLUDED.chunk_count,
            term_count = s.term_count + EXCLUDED.term_count
    )
    SELECT count(*) INTO taken FROM gone;
    DELETE FROM knowledge.term_statistics s WHERE s.tenant_id = tenant AND s.chunk_count <= 0;
    RETURN taken;
END
$$;

-- ---------------------------------------------------------------------------------------------------- search

DROP FUNCTION knowledge.search(uuid, text, vector, integer, uuid, uuid, integer);

-- The terms of a query in the languages of the tenant's chunks, as a sparse vector of their rarity (BM25's idf), and the keys
-- by which chunks are looked up: the rarest first, until they lead to a thousand, and on as long as they lead to no more than
-- 20,000. Commoner ones weigh, and choose nothing. What is not counted yet is counted here, as far as it is little.
CREATE FUNCTION knowledge.query_terms(tenant uuid, query_text text, OUT keys integer[], OUT rarity sparsevec)
    LANGUAGE sql STABLE AS $$
    WITH changes AS MATERIALIZED (
        SELECT c.* FROM knowledge.term_changes c WHERE c.tenant_id = tenant ORDER BY c.id LIMIT 500
    ), languages AS MATERIALIZED (
        SELECT l.language, sum(l.chunk_count) AS chunks FROM (
            SELECT t.language, t.chunk_count FROM knowledge.term_totals t WHERE t.tenant_id = tenant
            UNION ALL SELECT c.language, c.chunk_count FROM changes c
        ) AS l GROUP BY l.language HAVING sum(l.chunk_count) > 0
    ), terms AS MATERIALIZED (
        SELECT knowledge.term_key(tenant, u.lexeme) AS key, max(cardinality(u.positions)) AS frequency
        FROM languages l, unnest(to_tsvector(l.language::regconfig, query_text)) AS u GROUP BY 1
    ), recent AS (
        SELECT u.key, sum(u.chunks) AS chunks FROM changes c, unnest(c.keys, c.counts) AS u (key, chunks)
        WHERE u.key IN (SELECT key FROM terms) GROUP BY u.key
    ), held AS (
        SELECT t.key, t.frequency, greatest(COALESCE(s.chunk_count, 0) + COALESCE(r.chunks, 0), 0) AS chunks,
            (SELECT sum(l.chunks) FROM languages l) AS all_chunks
        FROM terms t LEFT JOIN recent r ON r.key = t.key
        LEFT JOIN knowledge.term_statistics s ON s.tenant_id = tenant AND s.key = t.key
    ), weighed AS (
        SELECT h.key, h.frequency * ln(1 + (greatest(h.all_chunks - h.chunks, 0) + 0.5) / (h.chunks + 0.5)) AS rarity,
            sum(h.chunks) OVER rarest AS reached, sum(h.chunks) OVER rarest - h.chunks AS before
        FROM held h WINDOW rarest AS (ORDER BY h.chunks, h.key)
    )
    SELECT array_agg(w.key) FILTER (WHERE w.before < 1000 OR w.reached <= 20000),
        ('{' || string_agg(format('%s:%s', w.key, w.rarity::real), ',') || '}/536870912')::sparsevec
    FROM weighed w
$$;

-- Loads pgvector's library, which alone knows the settings that the next function names.
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
CREATE FUNCTION knowledge.search(tenant uuid, query_text text, query_vector vector, space uuid, strategy text DEFAULT 'hybrid',
        "limit" integer DEFAULT 10, collection uuid DEFAULT NULL, persona uuid DEFAULT NULL, documents uuid[] DEFAULT NULL,
        metadata jsonb DEFAULT NULL, uploaded_from timestamptz DEFAULT NULL, uploaded_before timestamptz DEFAULT NULL,
        curated boolean DEFAULT NULL, candidates integer DEFAULT 50)
    RETURNS TABLE (chunk_id uuid, document_id uuid, document_name text, chunk_index integer, page integer, section text,
        text text, score double precision, similarity double precision, words double precision, highlight text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100 SET hnsw.max_scan_tuples = 40000 AS $$
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
    SELECT format('v.embedding::%1$s(%2$s) <=> $9::%1$s(%2$s)', CASE WHEN m.dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END, m.dimensions)
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
        EXECUTE format('SELECT count(*) FROM (SELECT FROM knowledge.chunks c JOIN %s LIMIT %s) AS counted', shown, few + 1) INTO reach
        USING search.tenant, search.collection, search.persona, search.documents, search.metadata, search.uploaded_from,
            search.uploaded_before, search.curated;
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

-- ---------------------------------------------------------------------------------------------------- what there is already

-- As for new chunks, by the same functions; counted at once, and the index made over all of them.
INSERT INTO knowledge.chunk_terms (chunk_id, tenant_id, language, term_count, keys, weights)
SELECT c.id, c.tenant_id, d.language, w.term_count, w.keys, w.weights
FROM knowledge.chunks c JOIN knowledge.documents d ON d.id = c.document_id,
    LATERAL knowledge.weigh(c.tenant_id, to_tsvector(d.language::regconfig, c.text), 100) AS w;
INSERT INTO knowledge.term_statistics (tenant_id, key, chunk_count)
SELECT t.tenant_id, u.key, count(*) FROM knowledge.chunk_terms t, unnest(t.keys) AS u (key) GROUP BY t.tenant_id, u.key;
INSERT INTO knowledge.term_totals (tenant_id, language, chunk_count, term_count)
SELECT t.tenant_id, t.language, count(*), sum(t.term_count) FROM knowledge.chunk_terms t GROUP BY t.tenant_id, t.language;
CREATE INDEX chunk_terms_keys_idx ON knowledge.chunk_terms USING gin (keys);
CREATE TRIGGER note_added AFTER INSERT ON knowledge.chunk_terms REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION knowledge.note_terms();

-- ---------------------------------------------------------------------------------------------------- row security and grants

DO $$
DECLARE
    relation regclass;
    bound text := 'tenant_id = (SELECT identity.current_tenant_id())';
BEGIN
    FOREACH relation IN ARRAY ARRAY['knowledge.chunk_terms', 'knowledge.term_statistics', 'knowledge.term_totals',
            'knowledge.term_changes']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader USING (%s) WITH CHECK (%s)', relation, bound, bound);
    END LOOP;
END
$$;

-- A chunk's text is what its terms, its vectors and its offsets were made of.
REVOKE UPDATE ON knowledge.chunks FROM greenroom_worker, greenroom_system, greenroom_operator;
GRANT UPDATE (collection_id, persona_id, page, section, is_curated, source_chunk_ids, metadata) ON knowledge.chunks
    TO greenroom_worker, greenroom_system, greenroom_operator;
-- Written by triggers and by count_terms alone.
GRANT SELECT ON knowledge.chunk_terms, knowledge.term_statistics, knowledge.term_totals, knowledge.term_changes
    TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
REVOKE EXECUTE ON FUNCTION knowledge.search, knowledge.count_terms, knowledge.add_terms, knowledge.note_terms FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.search TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT EXECUTE ON FUNCTION knowledge.count_terms TO greenroom_worker, greenroom_operator;
