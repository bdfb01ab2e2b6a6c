-- The data model: vectors of narratives, tools, products and transcripts, as those of chunks; what retention's policies do; and since
-- when the schema stands where it stands.

-- ---------------------------------------------------------------------------------------------------- vectors

ALTER TABLE knowledge.spaces DROP CONSTRAINT spaces_kind_check,
    ADD CONSTRAINT spaces_kind_check CHECK (kind IN ('chunks', 'narratives', 'tools', 'product_chunks', 'transcript_segments'));

CREATE TABLE people.narrative_vectors (
    space_id uuid NOT NULL,
    narrative_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    embedding vector NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT narrative_vectors_pkey PRIMARY KEY (space_id, narrative_id),
    CONSTRAINT narrative_vectors_space_id_fkey FOREIGN KEY (space_id) REFERENCES knowledge.spaces (id),
    CONSTRAINT narrative_vectors_narrative_id_tenant_id_fkey FOREIGN KEY (narrative_id, tenant_id)
        REFERENCES people.narratives (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT narrative_vectors_embedding_check CHECK (vector_norm(embedding) > 0)
) PARTITION BY LIST (space_id);
CREATE INDEX narrative_vectors_narrative_id_idx ON people.narrative_vectors (narrative_id);
COMMENT ON TABLE people.narrative_vectors IS 'The vector of a narrative in a space (001).';
COMMENT ON COLUMN people.narrative_vectors.tenant_id IS 'The narrative''s';
COMMENT ON COLUMN people.narrative_vectors.embedding IS 'Of the space''s dimensions';

CREATE TABLE tools.tool_vectors (
    space_id uuid NOT NULL,
    tool_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    embedding vector NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tool_vectors_pkey PRIMARY KEY (space_id, tool_id),
    CONSTRAINT tool_vectors_space_id_fkey FOREIGN KEY (space_id) REFERENCES knowledge.spaces (id),
    CONSTRAINT tool_vectors_tool_id_tenant_id_fkey FOREIGN KEY (tool_id, tenant_id)
        REFERENCES tools.tools (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_vectors_embedding_check CHECK (vector_norm(embedding) > 0)
) PARTITION BY LIST (space_id);
CREATE INDEX tool_vectors_tool_id_idx ON tools.tool_vectors (tool_id);
COMMENT ON TABLE tools.tool_vectors IS 'The vector of a tool''s description in a space (000).';
COMMENT ON COLUMN tools.tool_vectors.tenant_id IS 'The tool''s';
COMMENT ON COLUMN tools.tool_vectors.embedding IS 'Of the space''s dimensions';

CREATE TABLE knowledge.product_chunk_vectors (
    space_id uuid NOT NULL,
    product_chunk_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    embedding vector NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT product_chunk_vectors_pkey PRIMARY KEY (space_id, product_chunk_id),
    CONSTRAINT product_chunk_vectors_space_id_fkey FOREIGN KEY (space_id) REFERENCES knowledge.spaces (id),
    CONSTRAINT product_chunk_vectors_product_chunk_id_tenant_id_fkey FOREIGN KEY (product_chunk_id, tenant_id)
        REFERENCES knowledge.product_chunks (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT product_chunk_vectors_embedding_check CHECK (vector_norm(embedding) > 0)
) PARTITION BY LIST (space_id);
CREATE INDEX product_chunk_vectors_product_chunk_id_idx ON knowledge.product_chunk_vectors (product_chunk_id);
COMMENT ON TABLE knowledge.product_chunk_vectors IS 'The vector of a product''s piece in a space (003).';
COMMENT ON COLUMN knowledge.product_chunk_vectors.tenant_id IS 'The piece''s';
COMMENT ON COLUMN knowledge.product_chunk_vectors.embedding IS 'Of the space''s dimensions';

CREATE TABLE knowledge.transcript_segment_vectors (
    space_id uuid NOT NULL,
    transcript_segment_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    embedding vector NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT transcript_segment_vectors_pkey PRIMARY KEY (space_id, transcript_segment_id),
    CONSTRAINT transcript_segment_vectors_space_id_fkey FOREIGN KEY (space_id) REFERENCES knowledge.spaces (id),
    CONSTRAINT transcript_segment_vectors_transcript_segment_id_tenant_id_fkey FOREIGN KEY (transcript_segment_id, tenant_id)
        REFERENCES knowledge.transcript_segments (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT transcript_segment_vectors_embedding_check CHECK (vector_norm(embedding) > 0)
) PARTITION BY LIST (space_id);
CREATE INDEX transcript_segment_vectors_transcript_segment_id_idx ON knowledge.transcript_segment_vectors (transcript_segment_id);
COMMENT ON TABLE knowledge.transcript_segment_vectors IS 'The vector of a transcript''s segment in a space (003).';
COMMENT ON COLUMN knowledge.transcript_segment_vectors.tenant_id IS 'The segment''s';
COMMENT ON COLUMN knowledge.transcript_segment_vectors.embedding IS 'Of the space''s dimensions';

-- Where the vectors of a kind of space stand: the one place that says so.
CREATE FUNCTION knowledge.vectors_of(kind text) RETURNS regclass LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind
        WHEN 'chunks' THEN 'knowledge.chunk_vectors'
        WHEN 'narratives' THEN 'people.narrative_vectors'
        WHEN 'tools' THEN 'tools.tool_vectors'
        WHEN 'product_chunks' THEN 'knowledge.product_chunk_vectors'
        WHEN 'transcript_segments' THEN 'knowledge.transcript_segment_vectors'
    END::regclass
$$;

-- As before, for each kind: a space's partition is of its kind's table.
CREATE OR REPLACE FUNCTION knowledge.create_space(kind text, model text, revision text, dimensions integer, max_tokens integer,
        wanted text DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    model_key uuid;
    space_key uuid;
    is_first boolean := NOT EXISTS (SELECT FROM knowledge.spaces a WHERE a.kind = create_space.kind AND a.is_active);
    parent CONSTANT regclass := knowledge.vectors_of(kind);
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
    SELECT format('%I.%I', n.nspname, c.relname || '_' || replace(space_key::text, '-', '')) INTO leaf
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent;
    -- apart and attached: PARTITION OF would lock out whoever searches
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf, parent);
    EXECUTE format('ALTER TABLE %s ADD CHECK (vector_dims(embedding) = %s)', leaf, dimensions);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%L)', parent, leaf, space_key);
    IF is_first THEN
        EXECUTE format('CREATE INDEX ON %s USING hnsw ((embedding::%s(%s)) %s_cosine_ops) WITH (ef_construction = 128)',
            leaf, indexed, dimensions, indexed);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', leaf);
    RETURN space_key;
END
$$;

-- Documents are searched by spaces of chunks: another kind's is refused like one that there is not.
SELECT '[1]'::vector;
DO $$
DECLARE
    known text := pg_get_functiondef('knowledge.search'::regproc);
    changed text := replace(known, 'WHERE s.id = search.space;', $q$WHERE s.id = search.space AND s.kind = 'chunks';$q$);
BEGIN
    ASSERT changed <> known, 'knowledge.search does not look at its space';
    EXECUTE changed;
END
$$;

-- ---------------------------------------------------------------------------------------------------- retention

-- SQL over r0, a row of `relation`: whether a hold keeps it, by itself or by a row that would go along with it. NULL where no hold
-- speaks of either. `above` are the tables on the way down.
CREATE FUNCTION ops.held_condition(relation regclass, above oid[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here CONSTANT text := 'r' || cardinality(above);
    below CONSTANT text := 'r' || cardinality(above) + 1;
    said text[];
    condition text;
    key record;
BEGIN
    SELECT array_agg(format('to_jsonb(%s) @> %L', here,
        h.filter || jsonb_strip_nulls(jsonb_build_object('tenant_id', h.tenant_id, 'persona_id', h.persona_id)))) INTO said
    FROM ops.retention_policies h WHERE h.is_held AND to_regclass(format('%I.%I', h.table_schema, h.table_name)) = relation;
    FOR key IN
        WITH RECURSIVE threatened (oid) AS (
            SELECT to_regclass(format('%I.%I', h.table_schema, h.table_name))::oid FROM ops.retention_policies h WHERE h.is_held
            UNION
            SELECT k.confrelid FROM threatened t JOIN pg_constraint k ON k.conrelid = t.oid
            WHERE k.contype = 'f' AND k.confdeltype = 'c' AND k.conparentid = 0
        )
        SELECT k.conrelid::regclass AS relation,
            (SELECT string_agg(format('%s.%I = %s.%I', below, c.attname, here, p.attname), ' AND ')
            FROM unnest(k.conkey, k.confkey) AS u (child, parent)
            JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
            JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent) AS refers
        FROM pg_constraint k JOIN threatened t ON t.oid = k.conrelid
        WHERE k.confrelid = held_condition.relation AND k.contype = 'f' AND k.confdeltype = 'c' AND k.conparentid = 0
            AND k.conrelid <> ALL (above)
    LOOP
        condition := ops.held_condition(key.relation, above || relation::oid);
        IF condition IS NOT NULL THEN
            said := said || format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', key.relation, below, key.refers, condition);
        END IF;
    END LOOP;
    RETURN array_to_string(said, ' OR ');
END
$$;
COMMENT ON FUNCTION ops.held_condition IS 'Whether a hold keeps a row, itself or by what goes along with it, as SQL over r0.';

-- Let go what a policy speaks of (002's clean-up): up to `most` rows, or the months that are over; returns how many rows went. A
-- caller repeats it until fewer than `most` went. What a hold speaks of stays. Each run is noted, also one that found nothing.
CREATE FUNCTION ops.run_retention(policy_name text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    policy ops.retention_policies;
    relation regclass;
    cutoff timestamptz;
    meant text;
    held text;
    leaf record;
    gone bigint := 0;
    kept bigint := 0;
    counted bigint;
    ended oid[] := '{}';
    dropped text[] := '{}';
BEGIN
    -- A hold that is set meanwhile waits for the end; one that stands is seen.
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    SELECT * INTO policy FROM ops.retention_policies p WHERE p.name = policy_name;
    IF NOT FOUND OR policy.action NOT IN ('delete', 'drop_partition') THEN
        RAISE EXCEPTION 'no policy % that deletes', policy_name USING ERRCODE = '22023',
            HINT = 'Policies stand in ops.retention_policies; what is archived or rolled up first is a task''s.';
    END IF;
    IF policy.is_held OR NOT policy.is_enabled THEN
        RETURN 0;
    END IF;
    relation := format('%I.%I', policy.table_schema, policy.table_name)::regclass;
    cutoff := now() - policy.age;
    held := COALESCE(ops.held_condition(relation), 'false');
    IF policy.action = 'delete' THEN
        meant := format('r0.%I < %L AND to_jsonb(r0) @> %L', policy.age_column, cutoff,
            policy.filter || jsonb_strip_nulls(jsonb_build_object('tenant_id', policy.tenant_id, 'persona_id', policy.persona_id)));
        EXECUTE format('DELETE FROM %s d USING (SELECT r0.tableoid, r0.ctid FROM %s r0 WHERE %s AND NOT (%s) LIMIT %L) AS o '
            'WHERE d.tableoid = o.tableoid AND d.ctid = o.ctid', relation, relation, meant, held, most);
        GET DIAGNOSTICS gone = ROW_COUNT;
        EXECUTE format('SELECT count(*) FROM %s r0 WHERE %s AND (%s)', relation, meant, held) INTO kept;
    ELSE
        FOR leaf IN
            SELECT c.oid, substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$FROM \('([^']+)'\)$re$) AS since, b.until
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
                substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('([^']+)'\)$re$) AS b (until)
            WHERE i.inhparent = relation AND b.until::timestamptz <= cutoff
        LOOP
            -- Asked of the table: a month of the queue shows its rows to nobody, not to its owner.
            meant := format('r0.%1$I >= %2$L AND r0.%1$I < %3$L', policy.age_column, COALESCE(leaf.since, '-infinity'), leaf.until);
            EXECUTE format('SELECT count(*) FROM %s r0 WHERE %s AND (%s)', relation, meant, held) INTO counted;
            kept := kept + counted;
            CONTINUE WHEN counted > 0;
            -- Rows first: they take along what refers to them, and a month that is referred to cannot be detached.
            EXECUTE format('DELETE FROM %s r0 WHERE %s', relation, meant);
            GET DIAGNOSTICS counted = ROW_COUNT;
            gone := gone + counted;
            ended := ended || leaf.oid;
        END LOOP;
        FOR leaf IN SELECT c.oid::regclass AS name, c.relname FROM pg_class c WHERE c.oid = ANY (ended) ORDER BY c.relname LOOP
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', relation, leaf.name);
            EXECUTE format('DROP TABLE %s', leaf.name);
            dropped := dropped || leaf.relname::text;
        END LOOP;
    END IF;
    INSERT INTO ops.retention_runs (policy_id, policy_name, tenant_id, table_schema, table_name, action, status, cutoff, rows_deleted,
        rows_held, partitions_dropped, schema_revision, ended_at)
    SELECT policy.id, policy.name, policy.tenant_id, policy.table_schema, policy.table_name, policy.action, 'completed', cutoff, gone,
        kept, dropped, max(v.version_num), clock_timestamp() FROM public.alembic_version v;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION ops.run_retention IS 'Lets go what a policy that deletes speaks of, but for what a hold keeps, and notes it (002).';

-- ---------------------------------------------------------------------------------------------------- the schema's revision

-- When it changed, and from which to which (002: schema_migrations.applied_at).
CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON public.alembic_version FOR EACH ROW
    EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER log_truncate AFTER TRUNCATE ON public.alembic_version FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();

-- ---------------------------------------------------------------------------------------------------- row security and grants

SELECT ops.bind_to_tenant('people.narrative_vectors', 'tools.tool_vectors', 'knowledge.product_chunk_vectors',
    'knowledge.transcript_segment_vectors');
-- Who sees the thing sees its vector: the thing's own policy looks at the user.
SELECT ops.bind_to_user('knowledge.product_chunk_vectors',
    'EXISTS (SELECT FROM knowledge.product_chunks c WHERE c.id = product_chunk_vectors.product_chunk_id)');
SELECT ops.bind_to_user('knowledge.transcript_segment_vectors',
    'EXISTS (SELECT FROM knowledge.transcript_segments s WHERE s.id = transcript_segment_vectors.transcript_segment_id)');
REVOKE EXECUTE ON FUNCTION knowledge.vectors_of, ops.held_condition, ops.run_retention FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.vectors_of TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT EXECUTE ON FUNCTION ops.run_retention TO greenroom_system;
