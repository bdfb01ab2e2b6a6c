-- Months come and go as before; ended tasks go by rows, and attempts are kept.

DELETE FROM ops.retention_policies WHERE name = 'attempts' AND source = '003';
UPDATE ops.retention_policies SET action = 'delete' WHERE name = 'tasks' AND source = '003' AND action = 'drop_partition';

-- To the letter as they were.
CREATE OR REPLACE FUNCTION ops.run_retention(policy_name text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
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

CREATE OR REPLACE FUNCTION ops.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first CONSTANT timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next CONSTANT timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = parent);
    leaf CONSTANT text := (SELECT relname FROM pg_class WHERE oid = parent) || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
    key CONSTANT text := substring(pg_get_partkeydef(parent) FROM '\((.*)\)');
    guard record;
BEGIN
    IF to_regclass(format('%I.%I', schema, leaf)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', schema, leaf, parent);
    EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT within_month CHECK (%I IS NOT NULL AND %I >= %L AND %I < %L)',
        schema, leaf, key, key, first, key, next);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('CREATE POLICY owner_passes ON %I.%I TO CURRENT_USER USING (true) WITH CHECK (true)', schema, leaf);
    FOR guard IN SELECT * FROM pg_trigger t WHERE t.tgrelid = parent AND NOT t.tgisinternal AND t.tgtype & 32 <> 0 LOOP
        EXECUTE format('CREATE TRIGGER %I %s TRUNCATE ON %I.%I FOR EACH STATEMENT EXECUTE FUNCTION %s()', guard.tgname,
            CASE WHEN guard.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END, schema, leaf, guard.tgfoid::regproc);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, schema, leaf, first, next);
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT within_month', schema, leaf);
    RETURN leaf;
END
$$;

CREATE OR REPLACE FUNCTION queue.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    parent_name text := (SELECT relname FROM pg_class WHERE oid = parent);
    key text := pg_get_partkeydef(parent);
    leaf text := parent_name || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('queue.' || quote_ident(leaf)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    key := substring(key FROM '\((.*)\)');
    EXECUTE format('CREATE TABLE queue.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf, parent);
    EXECUTE format('ALTER TABLE queue.%I ADD CONSTRAINT within_month CHECK (%I >= %L AND %I < %L)',
                   leaf, key, first, key, next);
    IF parent_name = 'tasks_history' THEN
        EXECUTE format($c$ALTER TABLE queue.%I ADD CONSTRAINT is_ended
            CHECK (status IS NOT NULL AND status = ANY (ARRAY['done', 'failed', 'cancelled']) AND completed_at IS NOT NULL)$c$, leaf);
    END IF;
    EXECUTE format('ALTER TABLE queue.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE queue.%I FORCE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION queue.%I FOR VALUES FROM (%L) TO (%L)', parent, leaf, first, next);
    EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT within_month, DROP CONSTRAINT IF EXISTS is_ended', leaf);
    RETURN leaf;
END
$$;

DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT m.leaf FROM ops.months() m WHERE m.relation IN ('queue.tasks_history'::regclass, 'queue.attempts'::regclass) LOOP
        EXECUTE format('DROP POLICY IF EXISTS owner_passes ON %s', leaf);
    END LOOP;
END
$$;
DROP FUNCTION ops.run_months, ops.end_months, ops.drop_month, ops.cut_month, ops.clear_month, ops.count_month, ops.months_to_go,
    ops.begin_months, ops.make_month, ops.missing_months, ops.months, ops.parted_tables;
