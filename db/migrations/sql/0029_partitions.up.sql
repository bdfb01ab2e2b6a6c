-- Months come and go beside the work: made ahead one by one, dropped one by one, and no claim, enqueue or end of a task waits for either
-- longer than its lock is asked for (docs/decisions/0010-partitions.md).

-- ---------------------------------------------------------------------------------------------------- what there is

-- The tables that are parted by a time, and the column that they are parted by.
CREATE FUNCTION ops.parted_tables() RETURNS TABLE (relation regclass, key name) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass, a.attname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.atttypid = 'timestamptz'::regtype
    WHERE p.partstrat = 'r' AND p.partnatts = 1 AND c.relnamespace::regnamespace::text IN ('identity', 'billing', 'assistants', 'tools',
        'knowledge', 'people', 'governance', 'mail', 'vault', 'ops', 'audit', 'queue')
$$;
COMMENT ON FUNCTION ops.parted_tables IS 'Tables that are parted by a time, with its column.';

-- What stands in them. One that an operator's DETACH CONCURRENTLY left halfway is not among them: its rows are not seen any more.
CREATE FUNCTION ops.months() RETURNS TABLE (relation regclass, leaf regclass, since timestamptz, until timestamptz) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT t.relation, c.oid::regclass,
        COALESCE(substring(bound.text FROM $re$FROM \('([^']+)'\)$re$)::timestamptz, '-infinity'),
        COALESCE(substring(bound.text FROM $re$TO \('([^']+)'\)$re$)::timestamptz, 'infinity')
    FROM ops.parted_tables() t JOIN pg_inherits i ON i.inhparent = t.relation AND NOT i.inhdetachpending
    JOIN pg_class c ON c.oid = i.inhrelid, pg_get_expr(c.relpartbound, c.oid) AS bound (text)
$$;
COMMENT ON FUNCTION ops.months IS 'The partitions of tables that are parted by a time, from when to when.';

-- What is missing of this month and the next two (UTC).
CREATE FUNCTION ops.missing_months() RETURNS TABLE (relation regclass, since timestamptz) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT t.relation, wanted.since FROM generate_series(0, 2) AS ahead,
        LATERAL (SELECT date_trunc('month', now()) + make_interval(months => ahead)) AS wanted (since), ops.parted_tables() t
    WHERE NOT EXISTS (SELECT FROM ops.months() m WHERE m.relation = t.relation AND m.since <= wanted.since AND wanted.since < m.until)
    ORDER BY wanted.since, t.relation::text
$$;
COMMENT ON FUNCTION ops.missing_months IS 'Of this month and the next two, what parted tables lack.';

-- ---------------------------------------------------------------------------------------------------- making months

-- Create the partition of `parent` for the month of `moment` (UTC), if it is missing. Created apart and attached: PARTITION OF
-- would lock the parent; the CHECK, which says all that the partition's place says, spares ATTACH its scan. A table of that name that is
-- not attached, because somebody was interrupted, is attached. Row security is the parent's for who asks the parent; nobody has a
-- grant on a leaf. The owner passes there too: DETACH looks as the owner whether rows of other tables refer to the leaf's.
CREATE OR REPLACE FUNCTION ops.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first CONSTANT timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next CONSTANT timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = parent);
    leaf CONSTANT text := (SELECT relname FROM pg_class WHERE oid = parent) || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
    key CONSTANT text := substring(pg_get_partkeydef(parent) FROM '\((.*)\)');
    known CONSTANT regclass := to_regclass(format('%I.%I', schema, leaf));
    guard record;
BEGIN
    IF EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = parent AND i.inhrelid = known) THEN
        RETURN NULL;
    END IF;
    IF known IS NULL THEN
        EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', schema, leaf, parent);
    END IF;
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT IF EXISTS within_month, '
        'ADD CONSTRAINT within_month CHECK (%s AND %I IS NOT NULL AND %I >= %L AND %I < %L)',
        schema, leaf, COALESCE(pg_get_partition_constraintdef(parent), 'true'), key, key, first, key, next);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('DROP POLICY IF EXISTS owner_passes ON %I.%I', schema, leaf);
    EXECUTE format('CREATE POLICY owner_passes ON %I.%I TO CURRENT_USER USING (true) WITH CHECK (true)', schema, leaf);
    FOR guard IN SELECT * FROM pg_trigger t WHERE t.tgrelid = parent AND NOT t.tgisinternal AND t.tgtype & 32 <> 0 LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I %s TRUNCATE ON %I.%I FOR EACH STATEMENT EXECUTE FUNCTION %s()', guard.tgname,
            CASE WHEN guard.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END, schema, leaf, guard.tgfoid::regproc);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, schema, leaf, first, next);
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT within_month', schema, leaf);
    RETURN leaf;
END
$$;

-- The queue's months are made as all others.
CREATE OR REPLACE FUNCTION queue.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT ops.create_month(parent, moment)
$$;
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT m.leaf FROM ops.months() m WHERE m.relation IN ('queue.tasks_history'::regclass, 'queue.attempts'::regclass) LOOP
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', leaf);
    END LOOP;
END
$$;

-- Make a month that is missing, of a table by its name, since the relay may not look into every schema; false where somebody holds what
-- ATTACH must lock (the tables that the month refers to, against writers), or it is not missing any more. One a transaction: locks
-- are kept to its end.
CREATE FUNCTION ops.make_month(relation text, since timestamptz) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ops.missing_months() m
        WHERE m.relation = to_regclass(make_month.relation) AND m.since = make_month.since) THEN
        RETURN false;
    END IF;
    RETURN ops.create_month(relation::regclass, since) IS NOT NULL;
EXCEPTION
    -- somebody holds a table; another relay makes it just now
    WHEN lock_not_available OR deadlock_detected OR duplicate_table OR duplicate_object OR unique_violation THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.make_month IS 'Makes a month that a table lacks, unless somebody holds what that takes.';

-- ---------------------------------------------------------------------------------------------------- letting months go

-- Begin a run of a policy that takes whole months, or take up the one that was broken off; returns the run. NULL where the policy is
-- off, held, of another kind or being changed just now, and where a task that lives is at it.
CREATE FUNCTION ops.begin_months(policy_name text, task uuid) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    policy ops.retention_policies;
    run ops.retention_runs;
BEGIN
    SELECT * INTO policy FROM ops.retention_policies p
    WHERE p.name = policy_name AND p.action = 'drop_partition' AND p.is_enabled AND NOT p.is_held FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO run FROM ops.retention_runs r WHERE r.policy_id = policy.id AND r.status = 'running' ORDER BY r.id LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO ops.retention_runs AS r (policy_id, policy_name, task_id, table_schema, table_name, action, cutoff, schema_revision)
        SELECT policy.id, policy.name, task, policy.table_schema, policy.table_name, policy.action, now() - policy.age, max(v.version_num)
        FROM public.alembic_version v RETURNING r.* INTO run;
    ELSIF run.task_id IS DISTINCT FROM task THEN
        IF EXISTS (SELECT FROM queue.tasks_live t WHERE t.id = run.task_id) THEN
            RETURN NULL;
        END IF;
        UPDATE ops.retention_runs SET task_id = task WHERE id = run.id;
    END IF;
    RETURN run.id;
END
$$;
COMMENT ON FUNCTION ops.begin_months IS 'Begins a run of a policy that takes months, or goes on with one that was broken off.';

-- The months that a run is to let go, as its policy stands now: the oldest first. A table that others refer to is emptied first.
CREATE FUNCTION ops.months_to_go(run uuid)
    RETURNS TABLE (relation regclass, leaf regclass, key name, since timestamptz, until timestamptz, is_referred boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.relation, m.leaf, t.key, m.since, m.until,
        EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = m.relation AND k.contype = 'f')
    FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id
    JOIN ops.parted_tables() t ON t.relation = to_regclass(format('%I.%I', r.table_schema, r.table_name))
    JOIN ops.months() m ON m.relation = t.relation AND m.until <= LEAST(r.cutoff, now() - p.age)
    WHERE r.id = run AND r.status = 'running' AND p.is_enabled AND NOT p.is_held AND p.action = 'drop_partition'
    ORDER BY m.until
$$;
COMMENT ON FUNCTION ops.months_to_go IS 'The months that a run is to let go, the oldest first.';

-- What a month holds, and how many of that a hold keeps. Asked of the table: what is attached by hand may show its rows to nobody.
CREATE FUNCTION ops.count_month(relation regclass, key name, since timestamptz, until timestamptz, OUT total bigint, OUT kept bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %s) FROM %s r0 WHERE r0.%I >= %L AND r0.%I < %L',
        COALESCE(ops.held_condition(relation), 'false'), relation, key, since, key, until) INTO total, kept;
END
$$;
COMMENT ON FUNCTION ops.count_month IS 'Rows of a month, and those of them that a hold keeps.';

-- Delete up to `most` rows of a month of a run that others refer to; returns how many went. They take along what refers to them, which
-- the month itself would not: a month that is referred to cannot be detached. None where nothing refers to the table, and none
-- while a hold keeps one: the month stays whole. While it deletes it says that it erases, which the log of changes heeds (0032).
CREATE FUNCTION ops.clear_month(run uuid, leaf text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    month record;
    counted record;
    gone bigint;
BEGIN
    -- A hold that is set meanwhile waits for the end; one that stands is seen.
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    SELECT * INTO month FROM ops.months_to_go(run) m WHERE m.leaf = to_regclass(clear_month.leaf) AND m.is_referred;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    counted := ops.count_month(month.relation, month.key, month.since, month.until);
    IF counted.kept > 0 THEN
        RETURN 0;
    END IF;
    PERFORM set_config('app.erasing', 'on', true);
    EXECUTE format('DELETE FROM %s d USING (SELECT r0.tableoid, r0.ctid FROM %s r0 WHERE r0.%I >= %L AND r0.%I < %L LIMIT %L) AS o '
        'WHERE d.tableoid = o.tableoid AND d.ctid = o.ctid',
        month.relation, month.relation, month.key, month.since, month.key, month.until, most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('app.erasing', '', true);
    UPDATE ops.retention_runs SET rows_deleted = rows_deleted + gone WHERE id = run;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION ops.clear_month IS 'Deletes rows of a month that others refer to, before it goes.';

-- Drop a month; false, and nothing is done, where its lock is not had at once. While it is asked for, whoever comes later waits behind
-- it: that is the 50 ms, for each lock. A table that nothing refers to is locked alone: DROP of an attached month asks for no other.
-- Detached, it would come to refer by itself to what the table refers to, and its drop would lock that against every reader. One
-- that others refer to must be detached, which looks through its emptied pages under the lock: it waits until vacuum gave them back.
CREATE FUNCTION ops.cut_month(relation regclass, leaf regclass, is_referred boolean) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
BEGIN
    IF is_referred AND pg_relation_size(leaf) > 64 * 1024 * 1024 THEN
        RETURN false;
    END IF;
    IF is_referred THEN
        EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', relation, leaf);
    END IF;
    EXECUTE format('DROP TABLE %s', leaf);
    RETURN true;
EXCEPTION
    -- somebody reads or writes; a row came since it was emptied, and one that refers to it
    WHEN lock_not_available OR deadlock_detected OR foreign_key_violation THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.cut_month IS 'Drops a month, unless somebody holds what that takes.';

-- Let a month of a run go, in whole: `dropped`, `held` (with how many rows a hold keeps), `filled` (its rows go first), `busy` (somebody
-- holds it: later again), or `kept` where the run's policy does not speak of it any more. What it holds is counted before it is locked.
CREATE FUNCTION ops.drop_month(run uuid, leaf text, OUT outcome text, OUT rows_held bigint) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    month record;
    counted record;
    name CONSTANT text := (SELECT c.relname FROM pg_class c WHERE c.oid = to_regclass(leaf));
BEGIN
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    rows_held := 0;
    SELECT * INTO month FROM ops.months_to_go(run) m WHERE m.leaf = to_regclass(drop_month.leaf);
    IF NOT FOUND THEN
        outcome := 'kept';
        RETURN;
    END IF;
    counted := ops.count_month(month.relation, month.key, month.since, month.until);
    rows_held := counted.kept;
    outcome := CASE WHEN counted.kept > 0 THEN 'held' WHEN month.is_referred AND counted.total > 0 THEN 'filled' END;
    IF outcome IS NULL THEN
        outcome := CASE WHEN ops.cut_month(month.relation, month.leaf, month.is_referred) THEN 'dropped' ELSE 'busy' END;
    END IF;
    IF outcome = 'dropped' THEN
        UPDATE ops.retention_runs SET rows_deleted = rows_deleted + counted.total, partitions_dropped = partitions_dropped || name
        WHERE id = run;
    END IF;
END
$$;
COMMENT ON FUNCTION ops.drop_month IS 'Lets a month of a run go, unless a hold keeps a row of it or somebody uses it.';

-- End a run; returns how many rows it let go.
CREATE FUNCTION ops.end_months(run uuid, held bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ops.retention_runs SET status = 'completed', rows_held = held, ended_at = clock_timestamp()
    WHERE id = run AND status = 'running' RETURNING rows_deleted
$$;
COMMENT ON FUNCTION ops.end_months IS 'Ends a run of a policy that takes months.';

-- All steps of a run in one transaction, for whoever cannot wait for `partitions.maintain`: no month is locked before all are counted,
-- and one that is busy stays for the next run. Returns how many rows went.
CREATE FUNCTION ops.run_months(policy_name text, most integer) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    run CONSTANT uuid := ops.begin_months(policy_name, NULL);
    month record;
    counted record;
    held bigint := 0;
    rows_of jsonb := '{}';
BEGIN
    FOR month IN SELECT * FROM ops.months_to_go(run) LOOP
        LOOP
            EXIT WHEN ops.clear_month(run, month.leaf::text, most) < most;
        END LOOP;
        counted := ops.count_month(month.relation, month.key, month.since, month.until);
        held := held + counted.kept;
        IF counted.kept = 0 AND NOT (month.is_referred AND counted.total > 0) THEN
            rows_of := rows_of || jsonb_build_object(month.leaf::oid::text, counted.total);
        END IF;
    END LOOP;
    FOR month IN SELECT m.*, c.relname FROM ops.months_to_go(run) m JOIN pg_class c ON c.oid = m.leaf
        WHERE rows_of ? m.leaf::oid::text LOOP
        IF ops.cut_month(month.relation, month.leaf, month.is_referred) THEN
            UPDATE ops.retention_runs r SET rows_deleted = r.rows_deleted + (rows_of ->> month.leaf::oid::text)::bigint,
                partitions_dropped = r.partitions_dropped || month.relname::text
            WHERE r.id = run;
        END IF;
    END LOOP;
    RETURN COALESCE(ops.end_months(run, held), 0);
END
$$;
COMMENT ON FUNCTION ops.run_months IS 'Lets go the months that a policy speaks of, in one transaction.';

-- Let go what a policy speaks of (002's clean-up): up to `most` rows, or the months that are over; returns how many rows went. A
-- caller repeats it until fewer than `most` went. What a hold speaks of stays. Each run is noted, also one that found nothing.
CREATE OR REPLACE FUNCTION ops.run_retention(policy_name text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    policy ops.retention_policies;
    relation regclass;
    cutoff timestamptz;
    meant text;
    held text;
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
    held := COALESCE(ops.held_condition(relation), 'false');
    meant := format('r0.%I < %L AND to_jsonb(r0) @> %L', policy.age_column, cutoff,
        policy.filter || jsonb_strip_nulls(jsonb_build_object('tenant_id', policy.tenant_id, 'persona_id', policy.persona_id)));
    PERFORM set_config('app.erasing', 'on', true);
    EXECUTE format('DELETE FROM %s d USING (SELECT r0.tableoid, r0.ctid FROM %s r0 WHERE %s AND NOT (%s) LIMIT %L) AS o '
        'WHERE d.tableoid = o.tableoid AND d.ctid = o.ctid', relation, relation, meant, held, most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('app.erasing', '', true);
    EXECUTE format('SELECT count(*) FROM %s r0 WHERE %s AND (%s)', relation, meant, held) INTO kept;
    INSERT INTO ops.retention_runs (policy_id, policy_name, tenant_id, table_schema, table_name, action, status, cutoff, rows_deleted,
        rows_held, schema_revision, ended_at)
    SELECT policy.id, policy.name, policy.tenant_id, policy.table_schema, policy.table_name, policy.action, 'completed', cutoff, gone,
        kept, max(v.version_num), clock_timestamp() FROM public.alembic_version v;
    RETURN gone;
END
$$;

-- ---------------------------------------------------------------------------------------------------- policies

-- History goes by the month, attempts with the tasks that they are of (003: after 30 days). What an operator made of the policy stays.
UPDATE ops.retention_policies SET action = 'drop_partition' WHERE name = 'tasks' AND source = '003' AND action = 'delete'
    AND table_schema = 'queue' AND table_name = 'tasks_history' AND tenant_id IS NULL AND filter = '{}';
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, is_enabled, source, description)
VALUES ('attempts', 'queue', 'attempts', 'ended_at', '30 days', '{}', 'drop_partition', true, '003', 'Attempts of tasks')
ON CONFLICT DO NOTHING;

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION ops.parted_tables, ops.months, ops.missing_months, ops.make_month, ops.begin_months, ops.months_to_go,
    ops.count_month, ops.clear_month, ops.cut_month, ops.drop_month, ops.end_months, ops.run_months FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.parted_tables, ops.months TO greenroom_relay, greenroom_system, greenroom_operator, greenroom_reader;
GRANT EXECUTE ON FUNCTION ops.missing_months, ops.make_month TO greenroom_relay, greenroom_system;
GRANT EXECUTE ON FUNCTION ops.missing_months TO greenroom_operator;
GRANT EXECUTE ON FUNCTION ops.begin_months, ops.months_to_go, ops.clear_month, ops.drop_month, ops.end_months TO greenroom_system;
