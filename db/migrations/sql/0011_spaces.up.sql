-- Spaces side by side: a new model's fills while another one's is searched, and takes over in one commit.
-- Processes of the version before must have ended.

-- What the index compares by; the vectors themselves stand as they were computed.
ALTER TABLE knowledge.spaces ADD COLUMN precision text CHECK (precision IN ('vector', 'halfvec'));
UPDATE knowledge.spaces s SET precision = CASE WHEN m.dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END
FROM knowledge.embedding_models m WHERE m.id = s.model_id;
ALTER TABLE knowledge.spaces ALTER COLUMN precision SET NOT NULL;
-- Its partition goes next: that waits for searches that began.
ALTER TABLE knowledge.spaces ADD COLUMN is_dropped boolean NOT NULL DEFAULT false;
ALTER TABLE knowledge.spaces ADD CONSTRAINT active_is_kept CHECK (NOT (is_active AND is_dropped));

DROP FUNCTION knowledge.create_space(text, text, text, integer, integer);
-- Make the space of that model, if it is missing, with its partition; the first of its kind becomes the active one and has its
-- HNSW cosine index at once, another gets it when it is filled. pgvector refuses NaN and infinities itself; the CHECKs refuse a
-- wrong dimension and zero. An index on vectors holds 2,000 dimensions, one on halfvecs 4,000.
CREATE FUNCTION knowledge.create_space(kind text, model text, revision text, dimensions integer, max_tokens integer, wanted text DEFAULT NULL)
    RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    model_key uuid;
    space_key uuid;
    is_first boolean := NOT EXISTS (SELECT FROM knowledge.spaces a WHERE a.kind = create_space.kind AND a.is_active);
    leaf text;
    indexed text := CASE WHEN dimensions <= 2000 THEN COALESCE(wanted, 'vector') ELSE 'halfvec' END;
BEGIN
    IF dimensions > 4000 THEN
        RAISE EXCEPTION 'no index holds vectors of % dimensions', dimensions USING ERRCODE = '22023', HINT = '4,000 at most.';
    END IF;
    INSERT INTO knowledge.embedding_models AS m (name, revision, dimensions, max_tokens)
    VALUES (model, revision, dimensions, max_tokens) ON CONFLICT DO NOTHING;
    SELECT m.id INTO model_key FROM knowledge.embedding_models m
    WHERE m.name = model AND m.revision = create_space.revision AND m.dimensions = create_space.dimensions;
    SELECT s.id INTO space_key FROM knowledge.spaces s WHERE s.kind = create_space.kind AND s.model_id = model_key;
    IF space_key IS NOT NULL THEN
        RETURN space_key;
    END IF;
    INSERT INTO knowledge.spaces AS s (kind, model_id, is_active, precision) VALUES (kind, model_key, is_first, indexed)
    RETURNING s.id INTO space_key;
    leaf := 'chunk_vectors_' || replace(space_key::text, '-', '');
    -- apart and attached: PARTITION OF would lock out whoever searches
    EXECUTE format('CREATE TABLE knowledge.%I (LIKE knowledge.chunk_vectors INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf);
    EXECUTE format('ALTER TABLE knowledge.%I ADD CHECK (vector_dims(embedding) = %s)', leaf, dimensions);
    EXECUTE format('ALTER TABLE knowledge.chunk_vectors ATTACH PARTITION knowledge.%I FOR VALUES IN (%L)', leaf, space_key);
    IF is_first THEN
        EXECUTE format('CREATE INDEX ON knowledge.%I USING hnsw ((embedding::%s(%s)) %s_cosine_ops)', leaf, indexed, dimensions, indexed);
    END IF;
    EXECUTE format('ALTER TABLE knowledge.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE knowledge.%I FORCE ROW LEVEL SECURITY', leaf);
    RETURN space_key;
END
$$;
REVOKE EXECUTE ON FUNCTION knowledge.create_space FROM PUBLIC;

-- Loads pgvector's library, which alone knows the settings that the function names.
SELECT '[1]'::vector;

-- The search compares as its space's index does: the same function but for that.
DO $$
DECLARE
    known text := pg_get_functiondef('knowledge.search'::regproc);
    changed text := replace(known, $q$CASE WHEN m.dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END$q$, 's.precision');
BEGIN
    ASSERT changed <> known, 'knowledge.search does not choose by dimensions';
    EXECUTE changed;
END
$$;

-- A document fails with the tasks that it cannot be shown without.
CREATE OR REPLACE FUNCTION knowledge.follow_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    makers CONSTANT text[] := ARRAY['document.ingest', 'document.chunk', 'chunks.embed'];
    -- The payload may be foreign: a value that is no version must not stop whoever ends the task.
    version integer := CASE WHEN NEW.payload->>'version' ~ '^[0-9]{1,9}$' THEN (NEW.payload->>'version')::integer END;
BEGIN
    -- what fails for a space that nobody searches, or searches any more, is no failure of the document
    IF NEW.task_type <> ALL (makers) OR NEW.task_type = 'chunks.embed'
            AND NEW.payload->>'space_id' <> (SELECT s.id::text FROM knowledge.spaces s WHERE s.kind = 'chunks' AND s.is_active) THEN
        RETURN NULL;
    END IF;
    IF NEW.status = 'pending' THEN
        UPDATE knowledge.documents SET status = 'processing', error_message = NULL
        WHERE id = NEW.owner_id AND tenant_id = NEW.tenant_id AND status = 'failed'
            -- one of two tasks without which the version cannot be complete is replayed: that does not mend the other
            AND NOT EXISTS (SELECT FROM queue.tasks_history other WHERE other.owner_id = NEW.owner_id
                            AND other.owner_kind = 'document' AND other.task_type = ANY (makers)
                            AND other.status IN ('failed', 'cancelled') AND other.payload->>'version' = next_version::text);
    ELSE
        UPDATE knowledge.documents SET status = 'failed',
            error_message = COALESCE(NEW.last_error, NEW.task_type || ' was cancelled')
        WHERE id = NEW.owner_id AND tenant_id = NEW.tenant_id
            -- a task of an older version says nothing about the newest
            AND COALESCE(version, next_version) >= next_version;
    END IF;
    RETURN NULL;
END
$$;
