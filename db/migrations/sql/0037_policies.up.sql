-- What a retention policy takes is said once, for its plan, its run, its archive and its delete: by precedence, holds and references.

-- ---------------------------------------------------------------------------------------------------- tables

ALTER TABLE ops.retention_policies
    ADD COLUMN cadence text DEFAULT 'daily' NOT NULL,
    ADD COLUMN most_share numeric(4, 3) DEFAULT 0.5 NOT NULL,
    ADD CONSTRAINT retention_policies_cadence_check CHECK (cadence IN ('hourly', 'daily', 'monthly')),
    ADD CONSTRAINT retention_policies_most_share_check CHECK (most_share > 0 AND most_share <= 1);
COMMENT ON COLUMN ops.retention_policies.cadence IS 'Which schedule runs it';
COMMENT ON COLUMN ops.retention_policies.most_share IS 'Of the table''s rows: a run that would take more asks first; 1: never';
-- As many holds as there are reasons, also beside a policy.
DROP INDEX ops.retention_policies_scope_key;
CREATE UNIQUE INDEX retention_policies_scope_key ON ops.retention_policies (table_schema, table_name, filter, tenant_id, persona_id)
    NULLS NOT DISTINCT WHERE NOT is_held;

ALTER TABLE ops.retention_runs
    ADD COLUMN rows_planned bigint,
    ADD COLUMN rows_total bigint,
    ADD COLUMN confirmed_at timestamptz,
    DROP CONSTRAINT retention_runs_status_check,
    DROP CONSTRAINT retention_runs_status_says_when_check,
    ADD CONSTRAINT retention_runs_status_check CHECK (status IN ('running', 'asking', 'completed', 'failed', 'cancelled')),
    ADD CONSTRAINT retention_runs_status_says_when_check CHECK ((status IN ('running', 'asking')) = (ended_at IS NULL)),
    ADD CONSTRAINT retention_runs_asking_says_what_check CHECK (status <> 'asking' OR num_nulls(rows_planned, rows_total) = 0),
    ADD CONSTRAINT retention_runs_rows_planned_check CHECK (rows_planned >= 0),
    ADD CONSTRAINT retention_runs_rows_total_check CHECK (rows_total >= 0),
    ADD CONSTRAINT retention_runs_confirmed_at_check CHECK (confirmed_at >= started_at),
    ADD CONSTRAINT retention_runs_confirmed_at_range_check
        CHECK (confirmed_at >= '0002-01-01 00:00+00' AND confirmed_at < '9999-01-01 00:00+00');
COMMENT ON COLUMN ops.retention_runs.rows_planned IS 'That it was to take, counted at its beginning';
COMMENT ON COLUMN ops.retention_runs.rows_total IS 'Of the table, counted at its beginning';
COMMENT ON COLUMN ops.retention_runs.confirmed_at IS 'When an operator let a run go on that asked';

-- As 0024 has it, but that a run that asks is not over.
CREATE OR REPLACE FUNCTION audit.log_cleanup() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status NOT IN ('running', 'asking') THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit.audit_log (tenant_id, table_schema, table_name, record_id, operation, new_values)
    VALUES (NEW.tenant_id, NEW.table_schema, NEW.table_name, NEW.id::text,
        CASE WHEN NEW.action = 'archive' THEN 'ARCHIVE' ELSE 'CLEANUP' END,
        jsonb_build_object('cleaned_at', NEW.ended_at, 'retention_policy', NEW.policy_name, 'action', NEW.action, 'status', NEW.status,
            'cutoff', NEW.cutoff, 'rows_deleted', NEW.rows_deleted, 'rows_archived', NEW.rows_archived,
            'rows_rolled_up', NEW.rows_rolled_up, 'rows_held', NEW.rows_held, 'partitions_dropped', NEW.partitions_dropped));
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER log_cleanup AFTER INSERT OR UPDATE ON ops.retention_runs FOR EACH ROW
    WHEN (NEW.status NOT IN ('running', 'asking')) EXECUTE FUNCTION audit.log_cleanup();

-- ---------------------------------------------------------------------------------------------------- what refers to a table

-- `cascade` goes along with a row, `set_null` is changed by its end (also where a default is set), `refuse` keeps it.
CREATE FUNCTION ops.references_to(relation regclass)
    RETURNS TABLE (child regclass, constraint_name name, child_columns name[], parent_columns name[], action text, cleared_columns name[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.conrelid::regclass, k.conname, named.child, named.parent,
        CASE k.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set_null' WHEN 'd' THEN 'set_null' ELSE 'refuse' END,
        CASE WHEN k.confdeltype IN ('n', 'd') THEN named.cleared END
    FROM pg_constraint k CROSS JOIN LATERAL (
        SELECT array_agg(c.attname ORDER BY u.place), array_agg(p.attname ORDER BY u.place),
            array_agg(c.attname ORDER BY u.place) FILTER (WHERE k.confdelsetcols IS NULL OR c.attnum = ANY (k.confdelsetcols))
        FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (child, parent, place)
        JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
        JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent
    ) AS named (child, parent, cleared)
    WHERE k.confrelid = relation AND k.contype = 'f' AND k.conparentid = 0
    ORDER BY k.conrelid::regclass::text, k.conname
$$;
COMMENT ON FUNCTION ops.references_to IS 'The foreign keys to a table, and what becomes of who refers to a row that is deleted.';

-- Down every way of cascades; what is changed or refuses ends its way. `path` has the tables from the first to the child.
CREATE FUNCTION ops.dependents(relation regclass)
    RETURNS TABLE (parent regclass, child regclass, constraint_name name, child_columns name[], parent_columns name[], action text,
        depth integer, path oid[], cleared_columns name[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE tree AS (
        SELECT relation AS parent, k.*, 1 AS depth, ARRAY[relation::oid, k.child::oid] AS path FROM ops.references_to(relation) k
        UNION ALL
        SELECT t.child, k.*, t.depth + 1, t.path || k.child::oid FROM tree t CROSS JOIN LATERAL ops.references_to(t.child) k
        WHERE t.action = 'cascade' AND t.child <> ALL (t.path[:t.depth])
    )
    SELECT t.parent, t.child, t.constraint_name, t.child_columns, t.parent_columns, t.action, t.depth, t.path, t.cleared_columns
    FROM tree t ORDER BY t.depth, t.path::text, t.constraint_name
$$;
COMMENT ON FUNCTION ops.dependents IS 'What refers to a table, straight or through rows that would go along, as a tree.';

-- ---------------------------------------------------------------------------------------------------- what a policy speaks of

-- Whether a filter may compare a column with a value: one of the column's type, of a type whose values are compared as a whole.
CREATE FUNCTION ops.filter_fits(relation regclass, name text, value jsonb) RETURNS boolean LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = relation AND a.attname = filter_fits.name AND a.attnum > 0 AND CASE
            WHEN jsonb_typeof(value) = 'null' THEN true
            WHEN jsonb_typeof(value) IN ('object', 'array') THEN false
            WHEN t.oid = 'jsonb'::regtype THEN true
            WHEN t.typcategory NOT IN ('B', 'D', 'E', 'I', 'N', 'S') AND t.oid <> 'uuid'::regtype THEN false
            ELSE jsonb_typeof(value) = CASE t.typcategory WHEN 'B' THEN 'boolean' WHEN 'N' THEN 'number' ELSE 'string' END
                AND pg_input_is_valid(value #>> '{}', format_type(t.oid, a.atttypmod)) END)
$$;
COMMENT ON FUNCTION ops.filter_fits IS 'Whether a column can be compared with a value of a filter.';

-- As 0031 has it, but of each type, in full and of any alias: NULL where the filter is empty, `false` for what cannot be compared.
DROP FUNCTION ops.filter_condition(regclass, jsonb);
CREATE FUNCTION ops.filter_condition(relation regclass, filter jsonb, alias text DEFAULT 'r0') RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(CASE
        WHEN NOT ops.filter_fits(relation, f.key, f.value) THEN 'false'
        WHEN jsonb_typeof(f.value) = 'null' THEN format('%I.%I IS NULL', alias, f.key)
        WHEN a.atttypid = 'jsonb'::regtype THEN format('%I.%I = %L', alias, f.key, f.value)
        ELSE format('%I.%I = %L', alias, f.key, f.value #>> '{}') END, ' AND ' ORDER BY f.key)
    FROM jsonb_each(filter) f LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = f.key AND a.attnum > 0
$$;
COMMENT ON FUNCTION ops.filter_condition IS 'What a policy''s filter says, as SQL over r0 that indexes understand.';

-- Filter and scope; a tenant's own row is known by its key.
CREATE FUNCTION ops.scope_condition(relation regclass, policy ops.retention_policies, alias text DEFAULT 'r0') RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(NULLIF(concat_ws(' AND ', ops.filter_condition(relation, policy.filter, alias),
        ops.filter_condition(relation, jsonb_strip_nulls(jsonb_build_object(
            CASE relation WHEN 'identity.tenants'::regclass THEN 'id' ELSE 'tenant_id' END, policy.tenant_id,
            'persona_id', policy.persona_id)), alias)), ''), 'true')
$$;
COMMENT ON FUNCTION ops.scope_condition IS 'What a policy speaks of, of whatever age, as SQL.';

-- Whether the first takes its rows out of the second: both are of one table, and it is of a narrower scope, or of the same one with a
-- filter that says all that the other's says, and more.
CREATE FUNCTION ops.outranks(narrow ops.retention_policies, wide ops.retention_policies) RETURNS boolean LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT (narrow.table_schema, narrow.table_name) = (wide.table_schema, wide.table_name) AND CASE
        WHEN (narrow.tenant_id, narrow.persona_id) IS NOT DISTINCT FROM (wide.tenant_id, wide.persona_id)
            THEN narrow.filter @> wide.filter AND narrow.filter <> wide.filter
        ELSE num_nonnulls(narrow.tenant_id, narrow.persona_id) > num_nonnulls(wide.tenant_id, wide.persona_id)
            AND COALESCE(narrow.tenant_id = wide.tenant_id, wide.tenant_id IS NULL) END
$$;
COMMENT ON FUNCTION ops.outranks IS 'Whether a policy is more specific than another of its table.';

-- ---------------------------------------------------------------------------------------------------- what stays

-- What holds say of a table, or of the table that it is a part of. Never NULL where one speaks, so that it can be denied.
CREATE FUNCTION ops.own_holds(relation regclass, alias text) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('(%s) IS TRUE', ops.scope_condition(relation, h, alias)), ' OR ' ORDER BY h.id)
    FROM ops.retention_policies h CROSS JOIN to_regclass(format('%I.%I', h.table_schema, h.table_name)) AS held (relation)
    WHERE h.is_held AND (held.relation = own_holds.relation
        OR held.relation IN (SELECT a.relid FROM pg_partition_ancestors(own_holds.relation) a))
$$;

-- SQL over r0, a row of `relation`: whether it stays because of others, to any depth: of holds on it, on rows that would go along and on
-- rows that would be changed, or (not `holds`) of rows that refuse. `above` are the tables on the way down.
CREATE FUNCTION ops.kept_condition(relation regclass, holds boolean, above oid[]) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here CONSTANT text := 'r' || cardinality(above);
    below CONSTANT text := 'r' || cardinality(above) + 1;
    said text[] := array_remove(ARRAY[CASE WHEN holds THEN ops.own_holds(relation, here) END], NULL);
    condition text;
    key record;
BEGIN
    FOR key IN SELECT * FROM ops.references_to(relation) k WHERE k.child <> ALL (above || relation::oid) OR k.action <> 'cascade' LOOP
        condition := CASE
            WHEN key.action = 'cascade' THEN ops.kept_condition(key.child, holds, above || relation::oid)
            WHEN key.action = 'set_null' AND holds THEN ops.own_holds(key.child, below)
            WHEN key.action = 'refuse' AND NOT holds THEN 'true' END;
        CONTINUE WHEN condition IS NULL;
        SELECT said || format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', key.child, below,
            string_agg(format('%s.%I = %s.%I', below, u.child, here, u.parent), ' AND '), condition) INTO said
        FROM unnest(key.child_columns, key.parent_columns) AS u (child, parent);
    END LOOP;
    RETURN NULLIF(array_to_string(said, ' OR '), '');
END
$$;

-- As 0025 has it, but for rows that would be changed.
CREATE OR REPLACE FUNCTION ops.held_condition(relation regclass, above oid[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ops.retention_policies h WHERE h.is_held) THEN
        RETURN ops.kept_condition(relation, true, above);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION ops.held_condition IS 'Whether a hold keeps a row, itself or by what goes along with it or is changed, as SQL over r0.';

-- As 0028 has it, but by the same condition: a time or a key is what it is, however it is written.
CREATE OR REPLACE FUNCTION ops.tenant_hold(tenant uuid) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = on AS $$
DECLARE
    hold ops.retention_policies;
    relation regclass;
    is_held boolean;
BEGIN
    FOR hold IN SELECT * FROM ops.retention_policies h WHERE h.is_held AND COALESCE(h.tenant_id = tenant, true)
        ORDER BY h.tenant_id NULLS LAST, h.name LOOP
        is_held := hold.tenant_id IS NOT NULL;
        relation := to_regclass(format('%I.%I', hold.table_schema, hold.table_name));
        IF NOT is_held AND (relation = 'identity.tenants'::regclass OR EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id' AND NOT a.attisdropped)) THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s r0 WHERE r0.%I = %L AND %s)', relation,
                CASE WHEN relation = 'identity.tenants'::regclass THEN 'id' ELSE 'tenant_id' END, tenant,
                ops.scope_condition(relation, hold)) INTO is_held;
        END IF;
        IF is_held THEN
            RETURN format('%s (%s)', hold.name, hold.hold_reason);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------------------------------------------- what a policy takes

-- SQL over r0, a row of the policy's table: whether the policy takes it, when it takes what is older than `cutoff`. Without `holds` also
-- what a hold keeps. Archives and drops take whole months that are over before; a month that is dropped stays whole for one row of it,
-- and takes along what more specific policies speak of (they keep nothing longer, or they contradict). NULL for a hold and for
-- a policy that is off.
CREATE FUNCTION ops.retention_condition(policy uuid, cutoff timestamptz, holds boolean DEFAULT true) RETURNS text LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    wanted ops.retention_policies;
    target regclass;
    bound timestamptz;
    kept text;
    meant text;
BEGIN
    SELECT * INTO wanted FROM ops.retention_policies p WHERE p.id = policy AND p.is_enabled AND NOT p.is_held;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    target := format('%I.%I', wanted.table_schema, wanted.table_name)::regclass;
    bound := CASE wanted.action WHEN 'archive' THEN date_trunc('month', cutoff)
        WHEN 'drop_partition' THEN COALESCE((SELECT max(m.until) FROM ops.months() m
            WHERE m.relation = target AND m.until <= cutoff), '-infinity')
        ELSE cutoff END;
    kept := concat_ws(' OR ', ops.kept_condition(target, false, '{}'), CASE WHEN holds THEN ops.held_condition(target) END);
    meant := format('r0.%I < %L AND %s', wanted.age_column, bound, ops.scope_condition(target, wanted));
    IF wanted.action = 'drop_partition' THEN
        RETURN meant || CASE WHEN kept <> '' THEN format(' AND r0.tableoid NOT IN (SELECT r0.tableoid FROM %s r0 WHERE %s AND (%s))',
            target, meant, kept) ELSE '' END;
    END IF;
    SELECT meant || COALESCE(string_agg(format(' AND (%s) IS NOT TRUE', ops.scope_condition(target, p)), '' ORDER BY p.id), '')
    INTO meant FROM ops.retention_policies p WHERE p.is_enabled AND NOT p.is_held AND ops.outranks(p, wanted);
    RETURN meant || CASE WHEN kept <> '' THEN format(' AND NOT (%s)', kept) ELSE '' END;
END
$$;
COMMENT ON FUNCTION ops.retention_condition IS 'Which rows a policy takes that are older than a moment, as SQL over r0.';

-- As 0031 has it, but by that condition.
CREATE OR REPLACE FUNCTION ops.run_retention(policy_name text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    policy ops.retention_policies;
    relation regclass;
    cutoff timestamptz;
    gone bigint := 0;
    kept bigint := 0;
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
    IF policy.action = 'drop_partition' THEN
        RETURN ops.run_months(policy_name, most);
    END IF;
    relation := format('%I.%I', policy.table_schema, policy.table_name)::regclass;
    cutoff := now() - policy.age;
    PERFORM set_config('app.erasing', 'on', true);
    EXECUTE format('DELETE FROM %s d USING (SELECT r0.tableoid, r0.ctid FROM %s r0 WHERE %s LIMIT %L) AS o '
        'WHERE d.tableoid = o.tableoid AND d.ctid = o.ctid', relation, relation, ops.retention_condition(policy.id, cutoff), most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('app.erasing', '', true);
    IF ops.held_condition(relation) IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s r0 WHERE %s AND (%s)', relation, ops.retention_condition(policy.id, cutoff, false),
            ops.held_condition(relation)) INTO kept;
    END IF;
    INSERT INTO ops.retention_runs (policy_id, policy_name, tenant_id, table_schema, table_name, action, status, cutoff, rows_deleted,
        rows_held, schema_revision, ended_at)
    SELECT policy.id, policy.name, policy.tenant_id, policy.table_schema, policy.table_name, policy.action, 'completed', cutoff, gone,
        kept, max(v.version_num), clock_timestamp() FROM public.alembic_version v;
    RETURN gone;
END
$$;

-- ---------------------------------------------------------------------------------------------------- what a policy may say

-- The enabled policy that contradicts this one, or NULL: of one scope, with filters that one row can satisfy and of which neither says all
-- that the other's says; or one takes whole months, with rows that the other keeps longer, or by another time, or archives or rolls up.
CREATE FUNCTION ops.contradicting_policy(policy ops.retention_policies) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.name FROM ops.retention_policies o
    CROSS JOIN LATERAL (VALUES (o, policy), (policy, o)) AS pair (months, other)
    WHERE policy.is_enabled AND NOT policy.is_held AND o.is_enabled AND NOT o.is_held AND o.id <> policy.id
        AND (o.table_schema, o.table_name) = (policy.table_schema, policy.table_name)
        AND (
            (o.tenant_id, o.persona_id) IS NOT DISTINCT FROM (policy.tenant_id, policy.persona_id)
            AND NOT (o.filter @> policy.filter OR policy.filter @> o.filter)
            AND NOT EXISTS (SELECT FROM jsonb_each(o.filter) f WHERE policy.filter -> f.key <> f.value)
            OR (months).action = 'drop_partition' AND (
                (other).action IN ('archive', 'roll_up') OR (other).age_column <> (months).age_column OR (other).age > (months).age
                OR now() - (other).age < now() - (months).age))
    ORDER BY o.name LIMIT 1
$$;
COMMENT ON FUNCTION ops.contradicting_policy IS 'The name of an enabled policy that contradicts one, of those that stand.';

-- What does not go into archives: what opens something, or would.
CREATE FUNCTION ops.is_secret(relation regclass) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.nspname = 'vault' OR n.nspname = 'identity' AND c.relname IN ('users', 'sessions', 'api_keys', 'operators')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;
COMMENT ON FUNCTION ops.is_secret IS 'Whether a table has secrets or what is compared with them.';

-- As 0032 has it, and it looks as the owner, since a tenant's operator does not see what others may contradict: an age is an hour at the
-- least, values fit their columns, archives hold no secrets and need keys, measures alone are rolled up, policies do not
-- contradict. Whoever writes another policy of the table meanwhile waits.
CREATE OR REPLACE FUNCTION ops.check_retention_policy() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation oid;
    parted_by text;
    broken text;
    other text;
    name CONSTANT text := format('%s.%s', NEW.table_schema, NEW.table_name);
BEGIN
    SELECT c.oid, pg_get_partkeydef(c.oid) INTO relation, parted_by FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = NEW.table_schema AND c.relname = NEW.table_name AND c.relkind IN ('r', 'p')
        AND NOT (c.relispartition AND c.relkind = 'r')
        AND n.nspname IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops',
            'audit', 'queue');
    broken := CASE
        WHEN relation IS NULL THEN 'table_name'
        WHEN NOT NEW.is_held AND (name IN ('identity.tenants', 'identity.operators', 'ops.retention_policies', 'ops.retention_runs')
            OR NEW.table_schema = 'queue' AND NEW.table_name NOT IN ('tasks_history', 'attempts')) THEN 'table_name'
        WHEN NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = NEW.age_column AND a.attnum > 0
            AND a.atttypid = 'timestamptz'::regtype) THEN 'age_column'
        WHEN NEW.age > interval '1000 years' OR NOT NEW.is_held AND NEW.age < interval '1 hour' THEN 'age'
        WHEN EXISTS (SELECT FROM jsonb_each(NEW.filter) AS f WHERE NOT ops.filter_fits(relation, f.key, f.value)) THEN 'filter'
        WHEN NEW.action = 'drop_partition' AND parted_by IS DISTINCT FROM format('RANGE (%I)', NEW.age_column) THEN 'action'
        WHEN NEW.action = 'delete' AND NOT NEW.is_held AND (NEW.table_schema = 'audit'
            OR name IN ('governance.governance_events', 'governance.validation_results')) THEN 'action'
        WHEN NEW.action = 'roll_up' AND name <> 'ops.persona_health_metrics' THEN 'action'
        WHEN NEW.action = 'archive' AND NOT NEW.is_held AND (ops.is_secret(relation)
            OR EXISTS (SELECT FROM ops.dependents(relation) d WHERE d.action = 'cascade' AND ops.is_secret(d.child))
            OR NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisprimary)) THEN 'action'
        WHEN NEW.tenant_id IS NOT NULL AND name <> 'identity.tenants' AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id') THEN 'tenant_id'
        WHEN NEW.persona_id IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'persona_id') THEN 'persona_id'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'retention cannot go by this % of %.%', broken, NEW.table_schema, NEW.table_name USING ERRCODE = 'check_violation',
            SCHEMA = 'ops', TABLE = 'retention_policies', CONSTRAINT = format('retention_policies_%s_check', broken),
            HINT = CASE broken
                WHEN 'table_name' THEN 'A table of the data model, not a partition; of the queue tasks_history and attempts; none that '
                    'steers the installation.'
                WHEN 'age' THEN 'From 1 hour to 1000 years.'
                WHEN 'action' THEN 'drop_partition goes by the column that a table is parted by; the audit and decisions are not deleted '
                    'row by row; archives hold no secrets and need a primary key; measures of personas alone are rolled up.'
                WHEN 'age_column' THEN 'A column of the table that is a timestamptz.'
                WHEN 'filter' THEN 'One value for each column of the table that it names, of the column''s type.'
                ELSE 'Its rows are nobody''s: leave it out.' END;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ops.retention_policies ' || name, 0));
    other := ops.contradicting_policy(NEW);
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'the policy % contradicts the policy %: both speak of rows of %', NEW.name, other, name
            USING ERRCODE = 'check_violation', SCHEMA = 'ops', TABLE = 'retention_policies',
                CONSTRAINT = 'retention_policies_contradiction_check',
                HINT = 'Give one of them a filter that says all that the other''s says, and more, or switch one off; beside whole months '
                    'nothing is kept longer, goes by another time or is archived.';
    END IF;
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------------------------------------------- policies

-- When the designs have them run (002: on the first of the month), and what is left of history in a month of little work. What an
-- operator made of a policy stays.
UPDATE ops.retention_policies SET cadence = 'monthly' WHERE name IN ('governance-events', 'user-sessions', 'agent-sessions') AND source = '002';
UPDATE ops.retention_policies SET cadence = 'hourly', most_share = 1 WHERE name = 'sessions' AND source = '000';
UPDATE ops.retention_policies SET most_share = 0.9 WHERE name IN ('tasks', 'attempts') AND source = '003';

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION ops.references_to, ops.dependents, ops.filter_fits, ops.filter_condition, ops.scope_condition, ops.outranks,
    ops.own_holds, ops.kept_condition, ops.retention_condition, ops.contradicting_policy, ops.is_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.references_to, ops.dependents TO greenroom_system, greenroom_operator, greenroom_reader;
GRANT EXECUTE ON FUNCTION ops.retention_condition TO greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION ops.outranks, ops.filter_fits TO greenroom_operator;
