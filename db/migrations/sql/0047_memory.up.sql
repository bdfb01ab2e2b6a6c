-- Memory: which chunks curation has considered, what it made of which, and what becomes of that once a source changes or goes.

-- ---------------------------------------------------------------------------------------------------- what is due

ALTER TABLE knowledge.chunks ADD COLUMN curated_at timestamptz,
    ADD CONSTRAINT chunks_curated_at_range_check CHECK (curated_at >= '0002-01-01 00:00+00' AND curated_at < '9999-01-01 00:00+00');
COMMENT ON COLUMN knowledge.chunks.curated_at IS 'When curation considered it; NULL: it is due, where it is a persona''s and no summary';
CREATE INDEX chunks_due_idx ON knowledge.chunks (persona_id, id) WHERE curated_at IS NULL AND NOT is_curated AND persona_id IS NOT NULL;
GRANT UPDATE (curated_at) ON knowledge.chunks TO greenroom_worker, greenroom_system, greenroom_operator;

-- ---------------------------------------------------------------------------------------------------- memories

CREATE TABLE knowledge.memories (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    chunk_id uuid NOT NULL,
    sources_hash bytea NOT NULL,
    method text NOT NULL,
    model text,
    prompt_version text NOT NULL,
    source_count integer NOT NULL,
    source_token_count integer NOT NULL,
    token_count integer NOT NULL,
    status text DEFAULT 'current' NOT NULL,
    superseded_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT memories_pkey PRIMARY KEY (id),
    CONSTRAINT memories_chunk_id_key UNIQUE (chunk_id),
    CONSTRAINT memories_persona_id_sources_hash_key UNIQUE (persona_id, sources_hash),
    CONSTRAINT memories_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT memories_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT memories_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id)
        REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT memories_chunk_id_tenant_id_fkey FOREIGN KEY (chunk_id, tenant_id)
        REFERENCES knowledge.chunks (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT memories_superseded_by_tenant_id_fkey FOREIGN KEY (superseded_by, tenant_id)
        REFERENCES knowledge.memories (id, tenant_id) ON DELETE SET NULL (superseded_by),
    CONSTRAINT memories_sources_hash_check CHECK (length(sources_hash) = 32),
    CONSTRAINT memories_method_check CHECK (length(method) BETWEEN 1 AND 100),
    CONSTRAINT memories_model_check CHECK (length(model) BETWEEN 1 AND 255),
    CONSTRAINT memories_prompt_version_check CHECK (length(prompt_version) <= 100),
    CONSTRAINT memories_source_count_check CHECK (source_count > 0),
    CONSTRAINT memories_source_token_count_check CHECK (source_token_count > 0),
    CONSTRAINT memories_token_count_check CHECK (token_count > 0),
    CONSTRAINT memories_status_check CHECK (status IN ('current', 'stale', 'superseded')),
    CONSTRAINT memories_superseded_check CHECK (superseded_by IS NULL OR status = 'superseded'),
    CONSTRAINT memories_created_at_range_check CHECK (created_at >= '0002-01-01 00:00+00' AND created_at < '9999-01-01 00:00+00'),
    CONSTRAINT memories_updated_at_range_check CHECK (updated_at >= '0002-01-01 00:00+00' AND updated_at < '9999-01-01 00:00+00')
);
CREATE INDEX memories_tenant_id_idx ON knowledge.memories (tenant_id);
CREATE INDEX memories_persona_id_idx ON knowledge.memories (persona_id, id) WHERE status = 'current';
CREATE INDEX memories_superseded_by_idx ON knowledge.memories (superseded_by);
COMMENT ON TABLE knowledge.memories IS 'What a curated chunk was made of, how, and whether searches find it.';
COMMENT ON COLUMN knowledge.memories.chunk_id IS 'The curated chunk: its text, terms and vectors';
COMMENT ON COLUMN knowledge.memories.sources_hash IS 'SHA-256 of its sources'' hashes, the method that was wanted and its prompt''s version: made once';
COMMENT ON COLUMN knowledge.memories.method IS 'merged: one of sources that are nearly equal; else who summed them up';
COMMENT ON COLUMN knowledge.memories.model IS 'The language model, if one wrote it';
COMMENT ON COLUMN knowledge.memories.source_count IS 'Chunks that it was made of';
COMMENT ON COLUMN knowledge.memories.source_token_count IS 'Their tokens of cl100k_base';
COMMENT ON COLUMN knowledge.memories.token_count IS 'Tokens of cl100k_base';
COMMENT ON COLUMN knowledge.memories.status IS 'Searches find what is current; of what is stale a source changed or went';
COMMENT ON COLUMN knowledge.memories.superseded_by IS 'The memory that has its sources and more; NULL once that is gone';
CREATE TRIGGER touch BEFORE UPDATE ON knowledge.memories FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- Which chunks, no matter whether they are still there.
CREATE TABLE knowledge.memory_sources (
    memory_id uuid NOT NULL,
    place integer NOT NULL,
    tenant_id uuid NOT NULL,
    chunk_id uuid NOT NULL,
    document_id uuid NOT NULL,
    chunk_index integer NOT NULL,
    text_hash bytea NOT NULL,
    token_count integer NOT NULL,
    merged_into integer,
    CONSTRAINT memory_sources_pkey PRIMARY KEY (memory_id, place),
    CONSTRAINT memory_sources_memory_id_tenant_id_fkey FOREIGN KEY (memory_id, tenant_id)
        REFERENCES knowledge.memories (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT memory_sources_place_check CHECK (place >= 0),
    CONSTRAINT memory_sources_chunk_index_check CHECK (chunk_index >= 0),
    CONSTRAINT memory_sources_text_hash_check CHECK (length(text_hash) = 32),
    CONSTRAINT memory_sources_token_count_check CHECK (token_count > 0),
    CONSTRAINT memory_sources_merged_into_check CHECK (merged_into >= 0 AND merged_into <> place)
);
CREATE INDEX memory_sources_tenant_id_idx ON knowledge.memory_sources (tenant_id);
CREATE INDEX memory_sources_chunk_id_idx ON knowledge.memory_sources (chunk_id);
CREATE INDEX memory_sources_document_id_idx ON knowledge.memory_sources (document_id);
COMMENT ON TABLE knowledge.memory_sources IS 'A chunk that a memory was made of, no matter whether it is still there.';
COMMENT ON COLUMN knowledge.memory_sources.place IS 'Its place among the memory''s sources, from 0';
COMMENT ON COLUMN knowledge.memory_sources.tenant_id IS 'The memory''s';
COMMENT ON COLUMN knowledge.memory_sources.chunk_id IS 'The chunk, or the one of a later version that has the same text';
COMMENT ON COLUMN knowledge.memory_sources.chunk_index IS 'Its place in the document';
COMMENT ON COLUMN knowledge.memory_sources.text_hash IS 'The chunk''s';
COMMENT ON COLUMN knowledge.memory_sources.token_count IS 'Tokens of cl100k_base';
COMMENT ON COLUMN knowledge.memory_sources.merged_into IS 'The place of a source that is nearly equal and stands for it; NULL: it stands for itself';

SELECT ops.bind_to_tenant('knowledge.memories', 'knowledge.memory_sources');

-- ---------------------------------------------------------------------------------------------------- what becomes of them

-- Whoever writes memories of a persona, or has them go, waits for the other here. Taken behind the locks of rows: curation locks no
-- row of a source that it would have to wait for.
CREATE FUNCTION knowledge.lock_memory(persona uuid) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('memory ' || persona::text, 0))
$$;
COMMENT ON FUNCTION knowledge.lock_memory IS 'Keeps others from a persona''s memories to the end of the transaction.';

-- Have a memory's sources considered again: those that are there, but for what somebody is deleting just now.
CREATE FUNCTION knowledge.make_due(memory uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE knowledge.chunks c SET curated_at = NULL WHERE c.id IN (
        SELECT o.id FROM knowledge.chunks o
        WHERE o.id IN (SELECT s.chunk_id FROM knowledge.memory_sources s WHERE s.memory_id = memory) AND o.curated_at IS NOT NULL
        FOR NO KEY UPDATE SKIP LOCKED)
$$;
COMMENT ON FUNCTION knowledge.make_due IS 'Has curation consider the sources of a memory again.';

-- A memory's chunk is of the version that searches find while the memory is current: 2, and 1 else (documents of source 'memory'
-- have these two). What a current memory was made of is due again once it is stale or gone.
CREATE FUNCTION knowledge.follow_memory() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM knowledge.make_due(OLD.id);
        RETURN OLD;
    END IF;
    UPDATE knowledge.chunks c SET version = CASE NEW.status WHEN 'current' THEN 2 ELSE 1 END WHERE c.id = NEW.chunk_id;
    UPDATE knowledge.documents d SET chunk_count = d.chunk_count + CASE NEW.status WHEN 'current' THEN 1 ELSE -1 END
    FROM knowledge.chunks c WHERE c.id = NEW.chunk_id AND d.id = c.document_id AND (NEW.status = 'current' OR OLD.status = 'current');
    IF NEW.status = 'stale' THEN
        PERFORM knowledge.make_due(NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER follow_change AFTER UPDATE OF status ON knowledge.memories FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION knowledge.follow_memory();
-- Before, as its sources go with it.
CREATE TRIGGER follow_end BEFORE DELETE ON knowledge.memories FOR EACH ROW
    WHEN (OLD.status = 'current') EXECUTE FUNCTION knowledge.follow_memory();

-- Chunks went: what was considered stays so in the version that came instead, where it says the same, and is a source there. A memory
-- whose source says something else now is stale from the same commit on. Of documents that are gone knowledge.erase_memories takes care.
CREATE FUNCTION knowledge.follow_chunks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    linked uuid[];
BEGIN
    IF NOT EXISTS (SELECT FROM gone g WHERE g.curated_at IS NOT NULL AND NOT g.is_curated) THEN
        RETURN NULL;
    END IF;
    PERFORM knowledge.lock_memory(p.persona_id)
    FROM (SELECT DISTINCT g.persona_id FROM gone g WHERE g.persona_id IS NOT NULL ORDER BY g.persona_id) AS p;
    WITH same AS MATERIALIZED (
        SELECT g.document_id, g.text_hash, max(g.curated_at) AS curated_at FROM gone g
        WHERE g.curated_at IS NOT NULL AND NOT g.is_curated GROUP BY g.document_id, g.text_hash
    )
    UPDATE knowledge.chunks c SET curated_at = same.curated_at FROM same JOIN knowledge.documents d ON d.id = same.document_id
    WHERE c.document_id = d.id AND c.version = d.current_version AND c.text_hash = same.text_hash AND c.curated_at IS NULL;
    -- each text is looked up once, or a document that repeats one would cost the square of its length
    WITH instead AS MATERIALIZED (
        SELECT DISTINCT ON (c.document_id, c.text_hash) c.document_id, c.text_hash, c.id, c.chunk_index
        FROM (SELECT DISTINCT g.document_id FROM gone g) AS o JOIN knowledge.documents d ON d.id = o.document_id
        JOIN knowledge.chunks c ON c.document_id = d.id AND c.version = d.current_version
        ORDER BY c.document_id, c.text_hash, c.chunk_index
    ), moved AS (
        UPDATE knowledge.memory_sources s SET chunk_id = i.id, chunk_index = i.chunk_index
        FROM gone g JOIN instead i ON i.document_id = g.document_id AND i.text_hash = g.text_hash
        WHERE s.chunk_id = g.id RETURNING s.memory_id
    )
    SELECT array_agg(DISTINCT memory_id) INTO linked FROM moved;
    UPDATE knowledge.chunks c SET source_chunk_ids = (
        SELECT array_agg(s.chunk_id ORDER BY s.place) FROM knowledge.memory_sources s WHERE s.memory_id = m.id)
    FROM knowledge.memories m WHERE m.id = ANY (linked) AND c.id = m.chunk_id;
    UPDATE knowledge.memories m SET status = 'stale'
    WHERE m.status = 'current' AND m.id IN (
        SELECT s.memory_id FROM gone g JOIN knowledge.memory_sources s ON s.chunk_id = g.id
        WHERE EXISTS (SELECT FROM knowledge.documents d WHERE d.id = g.document_id));
    RETURN NULL;
END
$$;
CREATE TRIGGER follow_chunks AFTER DELETE ON knowledge.chunks REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION knowledge.follow_chunks();

-- Documents went, by whatever statement: what was made of their words goes with them, and so does what that superseded, as far as it
-- was made of them. The other sources are due again at once.
CREATE FUNCTION knowledge.erase_memories() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    personas uuid[];
BEGIN
    personas := ARRAY(SELECT DISTINCT m.persona_id FROM gone g JOIN knowledge.memory_sources s ON s.document_id = g.id
        JOIN knowledge.memories m ON m.id = s.memory_id ORDER BY 1);
    IF cardinality(personas) = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM knowledge.lock_memory(p) FROM unnest(personas) AS p;
    UPDATE knowledge.documents d SET chunk_count = d.chunk_count - o.chunks FROM (
        SELECT c.document_id, count(*) AS chunks FROM knowledge.memories m JOIN knowledge.chunks c ON c.id = m.chunk_id
        WHERE m.status = 'current'
            AND m.id IN (SELECT s.memory_id FROM gone g JOIN knowledge.memory_sources s ON s.document_id = g.id)
        GROUP BY c.document_id
    ) AS o WHERE d.id = o.document_id;
    DELETE FROM knowledge.chunks c USING knowledge.memories m
    WHERE c.id = m.chunk_id AND m.id IN (SELECT s.memory_id FROM gone g JOIN knowledge.memory_sources s ON s.document_id = g.id);
    INSERT INTO queue.outbox_tasks (tenant_id, task_type, payload, unique_key)
    SELECT p.tenant_id, 'memory.curate', jsonb_build_object('persona_id', p.id), 'memory.curate:' || p.id
    FROM assistants.personas p JOIN identity.tenants t ON t.id = p.tenant_id AND t.status = 'active'
    WHERE p.id = ANY (personas)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER erase_memories AFTER DELETE ON knowledge.documents REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION knowledge.erase_memories();

-- A document that is deleted in two steps is not found from the first on, and neither is what was made of it.
CREATE FUNCTION knowledge.hide_memories() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.persona_id IS NOT NULL THEN
        PERFORM knowledge.lock_memory(NEW.persona_id); -- a curation that began before waits, and then looks again
    END IF;
    UPDATE knowledge.memories m SET status = 'stale'
    WHERE m.status = 'current' AND m.id IN (SELECT s.memory_id FROM knowledge.memory_sources s WHERE s.document_id = NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER hide_memories AFTER UPDATE OF deleted_at ON knowledge.documents FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION knowledge.hide_memories();

-- A chunk that became another persona's, or nobody's, is no source of the one that it was of; it is due where it is now.
CREATE FUNCTION knowledge.move_memories() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.persona_id IS NOT NULL THEN
        PERFORM knowledge.lock_memory(OLD.persona_id);
    END IF;
    UPDATE knowledge.chunks c SET curated_at = NULL WHERE c.id = NEW.id AND c.curated_at IS NOT NULL;
    UPDATE knowledge.memories m SET status = 'stale'
    WHERE m.status = 'current' AND m.id IN (SELECT s.memory_id FROM knowledge.memory_sources s WHERE s.chunk_id = NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER move_memories AFTER UPDATE OF persona_id ON knowledge.chunks FOR EACH ROW
    WHEN (OLD.persona_id IS DISTINCT FROM NEW.persona_id AND NOT NEW.is_curated) EXECUTE FUNCTION knowledge.move_memories();

-- ---------------------------------------------------------------------------------------------------- what is related

-- Loads pgvector's library, which alone knows the settings that the next function names.
SELECT '[1]'::vector;

-- For each of some chunks the `nearest` ones that searches find of the same persona, as far as their cosine is `at_least` or more. As
-- knowledge.search it takes the tenant explicitly, and compares all of a persona's vectors where these are few.
CREATE FUNCTION knowledge.related_chunks(tenant uuid, persona uuid, space uuid, chunk_ids uuid[], nearest integer, at_least double precision)
    RETURNS TABLE (chunk_id uuid, related_id uuid, similarity double precision) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100 SET hnsw.max_scan_tuples = 20000 AS $$
#variable_conflict use_column
DECLARE
    shown CONSTANT text := $q$knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
        AND c.tenant_id = $1 AND c.persona_id = $2$q$;
    distance text;
    few bigint;
    reach bigint;
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM related_chunks.tenant THEN
        RAISE EXCEPTION 'chunks of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    -- The cast to the space's dimensions has to stand in the query as it stands in the index.
    SELECT format('v.embedding::%1$s(%2$s) <=> q.embedding::%1$s(%2$s)', s.precision, m.dimensions) INTO distance
    FROM knowledge.spaces s JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.id = related_chunks.space AND s.kind = 'chunks';
    IF distance IS NULL THEN
        RAISE EXCEPTION 'no space %', related_chunks.space USING ERRCODE = '22023', HINT = 'Spaces stand in knowledge.spaces.';
    END IF;
    few := (SELECT least(greatest(sqrt(100 * sum(t.chunk_count)), 1000), 20000) FROM knowledge.term_totals t);
    reach := (SELECT count(*) FROM (
        SELECT FROM knowledge.chunks c WHERE c.persona_id = related_chunks.persona LIMIT few + 1) AS counted);
    RETURN QUERY EXECUTE format($q$
        WITH asked AS MATERIALIZED (
            SELECT v.chunk_id, v.embedding FROM knowledge.chunk_vectors v
            WHERE v.space_id = %1$L AND v.tenant_id = $1 AND v.chunk_id = ANY ($3)
        ), own AS MATERIALIZED (
            SELECT c.id, v.embedding FROM knowledge.chunks c JOIN %2$s
            JOIN knowledge.chunk_vectors v ON v.space_id = %1$L AND v.chunk_id = c.id WHERE %4$L::boolean
        )
        SELECT q.chunk_id, near.id, 1 - near.distance FROM asked q CROSS JOIN LATERAL (%5$s) AS near
        WHERE 1 - near.distance >= $5 ORDER BY q.chunk_id, near.distance, near.id
        $q$, related_chunks.space, shown, distance, reach <= few,
        CASE WHEN reach <= few THEN
            format('SELECT v.id, %s AS distance FROM own v WHERE v.id <> q.chunk_id ORDER BY 2, 1 LIMIT $4', distance)
        ELSE format('SELECT c.id, %1$s AS distance FROM knowledge.chunk_vectors v JOIN knowledge.chunks c ON c.id = v.chunk_id JOIN %2$s '
            'WHERE v.space_id = %3$L AND v.tenant_id = $1 AND v.chunk_id <> q.chunk_id ORDER BY %1$s LIMIT $4',
            distance, shown, related_chunks.space) END)
    USING related_chunks.tenant, related_chunks.persona, related_chunks.chunk_ids, related_chunks.nearest, related_chunks.at_least;
END
$$;
COMMENT ON FUNCTION knowledge.related_chunks IS 'The nearest chunks of the same persona, for each of some.';

REVOKE EXECUTE ON FUNCTION knowledge.lock_memory, knowledge.make_due, knowledge.follow_memory, knowledge.follow_chunks,
    knowledge.erase_memories, knowledge.hide_memories, knowledge.move_memories, knowledge.related_chunks FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.lock_memory, knowledge.related_chunks TO greenroom_worker, greenroom_operator;
