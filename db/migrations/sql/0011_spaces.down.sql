-- Back to spaces whose index goes by their dimensions alone.

SELECT '[1]'::vector;
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('knowledge.search'::regproc), 's.precision',
        $q$CASE WHEN m.dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END$q$);
END
$$;

DROP FUNCTION knowledge.create_space;
CREATE FUNCTION knowledge.create_space(kind text, model text, revision text, dimensions integer, max_tokens integer)
    RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    model_key uuid;
    space_key uuid;
    leaf text;
    indexed text := CASE WHEN dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
BEGIN
    INSERT INTO knowledge.embedding_models AS m (name, revision, dimensions, max_tokens)
    VALUES (model, revision, dimensions, max_tokens) ON CONFLICT DO NOTHING;
    SELECT m.id INTO model_key FROM knowledge.embedding_models m
    WHERE m.name = model AND m.revision = create_space.revision AND m.dimensions = create_space.dimensions;
    SELECT s.id INTO space_key FROM knowledge.spaces s WHERE s.kind = create_space.kind AND s.model_id = model_key;
    IF space_key IS NOT NULL THEN
        RETURN space_key;
    END IF;
    INSERT INTO knowledge.spaces AS s (kind, model_id, is_active)
    VALUES (kind, model_key, NOT EXISTS (SELECT FROM knowledge.spaces a WHERE a.kind = create_space.kind AND a.is_active))
    RETURNING s.id INTO space_key;
    leaf := 'chunk_vectors_' || replace(space_key::text, '-', '');
    EXECUTE format('CREATE TABLE knowledge.%I PARTITION OF knowledge.chunk_vectors FOR VALUES IN (%L)', leaf, space_key);
    EXECUTE format('ALTER TABLE knowledge.%I ADD CHECK (vector_dims(embedding) = %s)', leaf, dimensions);
    EXECUTE format('CREATE INDEX ON knowledge.%I USING hnsw ((embedding::%s(%s)) %s_cosine_ops)', leaf, indexed, dimensions, indexed);
    EXECUTE format('ALTER TABLE knowledge.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE knowledge.%I FORCE ROW LEVEL SECURITY', leaf);
    RETURN space_key;
END
$$;
REVOKE EXECUTE ON FUNCTION knowledge.create_space FROM PUBLIC;

CREATE OR REPLACE FUNCTION knowledge.follow_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    makers CONSTANT text[] := ARRAY['document.ingest', 'document.chunk', 'chunks.embed'];
    -- The payload may be foreign: a value that is no version must not stop whoever ends the task.
    version integer := CASE WHEN NEW.payload->>'version' ~ '^[0-9]{1,9}$' THEN (NEW.payload->>'version')::integer END;
BEGIN
    IF NEW.task_type <> ALL (makers) THEN
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

ALTER TABLE knowledge.spaces DROP COLUMN precision, DROP COLUMN is_dropped;
