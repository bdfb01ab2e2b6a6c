-- As 0029 to 0044 have it.

ALTER FUNCTION ops.month_to_archive RENAME TO archive_month;
ALTER FUNCTION ops.takes_whole_month RENAME TO archives_whole;
ALTER FUNCTION ops.listed_columns RENAME TO archive_list;
DO $$
DECLARE
    known text;
BEGIN
    FOR known IN SELECT pg_get_functiondef(p.oid) FROM pg_proc p
        WHERE p.pronamespace = 'ops'::regnamespace AND p.prosrc LIKE '%ops.listed\_columns(%' LOOP
        EXECUTE replace(known, 'ops.listed_columns(', 'ops.archive_list(');
    END LOOP;
END
$$;

DO $$
DECLARE
    edit record;
    known text;
BEGIN
    FOR edit IN SELECT * FROM (VALUES
        ('ops.restore_page', $q$    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF ops.is_secret(to_regclass(stored."table")) OR stored."table" ~ '^(ops[.](retention|archive|released|installation)|identity[.]tenants$)' THEN
        RAISE EXCEPTION 'no archive has rows of %', stored."table" USING ERRCODE = '42501',
            HINT = 'Look with `greenroom retention archives --verify` at what the archives say.';
    END IF;
$q$, $q$    IF NOT FOUND THEN
        RETURN;
    END IF;
$q$),
        ('ops.months_to_go', $q$AND p.action = 'drop_partition'
        -- what was brought back by another time may be in any of them
        AND NOT EXISTS (SELECT FROM ops.archives a WHERE (a.table_schema, a.table_name) = (p.table_schema, p.table_name)
            AND a.restored_until > now() AND (a.age_column IS DISTINCT FROM t.key
                OR m.since < (a.month + interval '1 month') AT TIME ZONE 'UTC' AND m.until > a.month::timestamp AT TIME ZONE 'UTC'))
$q$, $q$AND p.action = 'drop_partition'
$q$),
        ('ops.taken_condition', $q$        || COALESCE(' AND (' || ops.restored_condition(p) || ') IS NOT TRUE', '')$q$, $q$        || COALESCE((SELECT ' AND NOT (' || string_agg(DISTINCT format('r0.%1$I >= %2$L AND r0.%1$I < %3$L', p.age_column,
                a.month::timestamptz, a.month::timestamptz + interval '1 month'), ' OR ') || ')'
            FROM ops.archives a WHERE p.action = 'archive' AND (a.table_schema, a.table_name) = (p.table_schema, p.table_name)
                AND a.restored_until > now()), '')$q$),
        ('ops.clear_month', $q$',
        month.key, month.since, month.key, month.until, page.places), page.size);$q$, $q$%s',
        month.key, month.since, month.key, month.until, page.places,
        ' AND NOT (' || ops.held_condition(month.relation) || ')'), page.size);$q$),
        ('ops.take_page', $q$',
            page.places, age_column, page.first, page.last, page.tables, page.places), page.size);$q$, $q$%s',
            page.places, age_column, page.first, page.last, page.tables, page.places,
            -- what came to refer to them before they were locked, and a hold speaks of, keeps them
            ' AND NOT (' || ops.held_condition(relation) || ')'), page.size);$q$),
        ('ops.erase_taken', $q$    along jsonb;
    held CONSTANT text := ops.held_condition(relation);
BEGIN
    IF held IS NOT NULL THEN
        PERFORM ops.lock_dependents(relation, rows);
        rows := format('%s AND NOT (%s)', rows, held);
    END IF;
$q$, $q$    along jsonb;
BEGIN
$q$),
        ('ops.empty_archive', $q$    IF NOT ops.is_keyed(scope.relation) AND NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN
        gone := ops.empty_equals(scope.relation, key, refers, goes, rows);
    ELSIF NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN$q$, $q$    IF NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN$q$)
    ) AS e (function, said, says) LOOP
        known := pg_get_functiondef(edit.function::regproc);
        ASSERT strpos(known, edit.said) > 0, edit.function || ' is another one';
        EXECUTE replace(known, edit.said, edit.says);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION ops.kept_condition(relation regclass, holds boolean, above oid[]) RETURNS text LANGUAGE plpgsql STABLE
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

CREATE OR REPLACE FUNCTION ops.restoring_rows(relation regclass, columns jsonb, without text[]) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format($q$
WITH page AS MATERIALIZED (
    SELECT * FROM (SELECT row_number() OVER () AS "#", q.* FROM json_to_recordset($1) AS q (%2$s)) AS p WHERE p."#" BETWEEN $2 AND $3
), checked AS MATERIALIZED (
    SELECT p.*, %3$s AS "#reason" FROM page p
), typed AS MATERIALIZED (
    SELECT p."#", %4$s FROM checked p WHERE p."#reason" IS NULL
), there AS MATERIALIZED (
    SELECT p."#", %5$s AS is_different FROM typed p JOIN %1$s t ON %6$s
), judged AS MATERIALIZED (
    SELECT p.*, %7$s AS "#reason" FROM typed p WHERE NOT EXISTS (SELECT FROM there t WHERE t."#" = p."#")
), added AS (
    INSERT INTO %1$s (%8$s) OVERRIDING SYSTEM VALUE SELECT %8$s FROM judged j WHERE j."#reason" IS NULL ORDER BY j."#"
    ON CONFLICT DO NOTHING RETURNING 1
), refused AS (
    SELECT c."#reason" AS reason, count(*) AS rows FROM checked c WHERE c."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT j."#reason", count(*) FROM judged j WHERE j."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT 'another row has a key of it that is unique', j.rows - a.rows
    FROM (SELECT count(*) AS rows FROM judged WHERE "#reason" IS NULL) AS j, (SELECT count(*) AS rows FROM added) AS a WHERE j.rows > a.rows
)
SELECT (SELECT count(*) FROM added) AS written, (SELECT count(*) FROM there WHERE NOT is_different) AS same,
    (SELECT count(*) FROM there WHERE is_different) AS other, (SELECT jsonb_object_agg(r.reason, r.rows) FROM refused r) AS refused$q$,
        relation, string_agg(format('"%s" text', c.number), ', '),
        COALESCE('CASE ' || string_agg(format('WHEN NOT pg_input_is_valid(p."%s", %L) THEN %L', c.number, c.type,
            format('%s: no value of the type %s, which it has now', c.name, c.type)), ' ') FILTER (WHERE c.is_checked) || ' END',
            'NULL::text'),
        string_agg(format('p."%s"::%s AS %I', c.number, c.type, c.name), ', '),
        COALESCE(string_agg(format('t.%1$I::text IS DISTINCT FROM p.%1$I::text', c.name), ' OR ') FILTER (WHERE NOT c.is_key), 'false'),
        string_agg(format('t.%1$I = p.%1$I', c.name), ' AND ') FILTER (WHERE c.is_key),
        ops.orphan_case(relation, array_agg(c.name), 'typed'),
        string_agg(quote_ident(c.name), ', '))
    FROM ops.restorable_columns(relation, columns, without) c
$$;

CREATE OR REPLACE FUNCTION ops.begin_months(policy_name text, task uuid) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
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

CREATE OR REPLACE FUNCTION ops.end_months(run uuid, held bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ops.retention_runs SET status = 'completed', rows_held = held, ended_at = clock_timestamp()
    WHERE id = run AND status = 'running' RETURNING rows_deleted
$$;

CREATE OR REPLACE FUNCTION ops.run_months(policy_name text, most integer) RETURNS bigint LANGUAGE plpgsql
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
        CONTINUE WHEN NOT ops.close_month(month.relation, month.leaf);
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

COMMENT ON FUNCTION ops.begin_months IS 'Begins a run of a policy that takes months, or goes on with one that was broken off.';
COMMENT ON FUNCTION ops.end_months IS 'Ends a run of a policy that takes months.';
COMMENT ON FUNCTION ops.run_months IS 'Lets go the months that a policy speaks of, in one transaction.';
COMMENT ON FUNCTION ops.run_retention IS 'Lets go what a policy that deletes speaks of, but for what a hold keeps, and notes it (002).';
REVOKE EXECUTE ON FUNCTION ops.begin_months, ops.end_months, ops.run_months, ops.run_retention FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.begin_months, ops.end_months, ops.run_retention TO greenroom_system;
DROP FUNCTION ops.is_keyed, ops.empty_equals, ops.lock_dependents, ops.goes_along, ops.restored_condition;
ALTER TABLE ops.archives DROP COLUMN age_column;
DROP TABLE ops.installation;
