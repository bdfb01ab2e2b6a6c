-- Vectors are chunks' alone: those of other kinds go, with their spaces. Policies do nothing, and a change of the revision is not noted.

DROP TRIGGER log_truncate ON public.alembic_version;
DROP TRIGGER log_change ON public.alembic_version;
DROP FUNCTION ops.run_retention, ops.held_condition;

SELECT '[1]'::vector;
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('knowledge.search'::regproc), $q$WHERE s.id = search.space AND s.kind = 'chunks';$q$,
        'WHERE s.id = search.space;');
END
$$;

DROP TABLE knowledge.transcript_segment_vectors, knowledge.product_chunk_vectors, tools.tool_vectors, people.narrative_vectors;
DELETE FROM knowledge.spaces WHERE kind <> 'chunks';
DELETE FROM knowledge.embedding_models m WHERE NOT EXISTS (SELECT FROM knowledge.spaces s WHERE s.model_id = m.id);
ALTER TABLE knowledge.spaces DROP CONSTRAINT spaces_kind_check, ADD CONSTRAINT spaces_kind_check CHECK (kind IN ('chunks'));

-- To the letter as it was.
CREATE OR REPLACE FUNCTION knowledge.create_space(kind text, model text, revision text, dimensions integer, max_tokens integer,
        wanted text DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
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
        EXECUTE format('CREATE INDEX ON knowledge.%I USING hnsw ((embedding::%s(%s)) %s_cosine_ops) WITH (ef_construction = 128)', leaf, indexed, dimensions, indexed);
    END IF;
    EXECUTE format('ALTER TABLE knowledge.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE knowledge.%I FORCE ROW LEVEL SECURITY', leaf);
    RETURN space_key;
END
$$;
DROP FUNCTION knowledge.vectors_of;
