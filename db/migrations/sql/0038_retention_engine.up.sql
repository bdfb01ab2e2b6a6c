-- Retention is enforced run by run and page by page, each page as the policy and the holds stand then; and a plan says beforehand what
-- would go, by the same conditions.

-- ---------------------------------------------------------------------------------------------------- runs

ALTER TABLE ops.retention_runs ADD COLUMN dependents jsonb DEFAULT '{}' NOT NULL,
    ADD CONSTRAINT retention_runs_dependents_check CHECK (jsonb_typeof(dependents) = 'object');
COMMENT ON COLUMN ops.retention_runs.dependents IS 'By table: rows that went along, links that were cleared';

-- ---------------------------------------------------------------------------------------------------- what goes

-- SQL over r0, as ops.retention_condition has it, and of measures those alone of hours that are rolled up from all their measures.
CREATE FUNCTION ops.taken_condition(policy uuid, cutoff timestamptz, holds boolean DEFAULT true) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT ops.retention_condition(p.id, cutoff, holds) || CASE WHEN p.action = 'roll_up' THEN format($q$
        AND r0.measured_at < %L AND (
            SELECT h.sample_count FROM ops.persona_health_hourly h
            WHERE h.persona_id = r0.persona_id AND h.hour = date_trunc('hour', r0.measured_at, 'UTC')
        ) >= (
            SELECT count(*) FROM ops.persona_health_metrics m
            WHERE m.persona_id = r0.persona_id AND m.measured_at >= date_trunc('hour', r0.measured_at, 'UTC')
                AND m.measured_at < date_trunc('hour', r0.measured_at, 'UTC') + interval '1 hour')$q$, date_trunc('hour', cutoff)) ELSE '' END
    FROM ops.retention_policies p WHERE p.id = policy AND p.is_enabled AND NOT p.is_held
$$;
COMMENT ON FUNCTION ops.taken_condition IS 'Which rows a run of a policy takes, as SQL over r0.';

-- What goes along with the rows of a table for which a condition over r0 holds, by cascade and to any depth, and the references that
-- become NULL: by table, each row once whatever ways lead to it, and a reference of a row that goes itself not at all.
CREATE FUNCTION ops.count_dependents(relation regclass, condition text) RETURNS TABLE (dependent text, kind text, row_count bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted record;
BEGIN
    FOR counted IN
        WITH RECURSIVE going AS (
            SELECT count_dependents.relation AS relation, 'r0' AS name, ARRAY[count_dependents.relation::oid] AS path,
                count_dependents.condition COLLATE "C" AS condition, NULL::name AS key, 'cascade' AS action
            UNION ALL
            SELECT k.child, 'r' || cardinality(g.path), g.path || k.child::oid,
                format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', g.relation, g.name, (
                    SELECT string_agg(format('r%s.%I = %s.%I', cardinality(g.path), u.child, g.name, u.parent), ' AND ')
                    FROM unnest(k.child_columns, k.parent_columns) AS u (child, parent)), g.condition),
                k.constraint_name, k.action
            FROM going g CROSS JOIN LATERAL ops.references_to(g.relation) k
            WHERE g.action = 'cascade' AND (k.action = 'set_null' OR k.action = 'cascade' AND k.child <> ALL (g.path))
        ), ways AS (
            SELECT g.relation, g.action, g.key, format('SELECT %2$s.tableoid, %2$s.ctid FROM %1$s %2$s WHERE %3$s',
                g.relation, g.name, g.condition) AS found
            FROM going g
        ), gone AS (
            SELECT w.relation, string_agg(w.found, ' UNION ') AS found FROM ways w WHERE w.action = 'cascade' GROUP BY w.relation
        )
        SELECT g.relation AS dependent, 'rows' AS kind, g.found FROM gone g WHERE g.relation <> count_dependents.relation
        UNION ALL
        SELECT w.relation, 'links', format('(%s)', string_agg(w.found, ' UNION '))
            || COALESCE((SELECT format(' EXCEPT (%s)', g.found) FROM gone g WHERE g.relation = w.relation), '')
        FROM ways w WHERE w.action = 'set_null' GROUP BY w.relation, w.key
    LOOP
        dependent := counted.dependent;
        kind := counted.kind;
        EXECUTE format('SELECT count(*) FROM (%s) AS rows', counted.found) INTO row_count;
        IF row_count > 0 THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ops.count_dependents IS 'What goes along with rows of a table, and the references that become NULL.';

-- How many rows a table has: counted, or as the last ANALYZE found them where they are 100,000 and more.
CREATE FUNCTION ops.count_table(relation regclass) RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total bigint;
BEGIN
    SELECT sum(GREATEST(c.reltuples, 0)) INTO total FROM pg_class c
    WHERE c.oid = relation OR c.oid IN (SELECT t.relid FROM pg_partition_tree(relation) t WHERE t.isleaf) AND c.oid <> relation;
    IF total < 100000 THEN
        EXECUTE format('SELECT count(*) FROM %s', relation) INTO total;
    END IF;
    RETURN total;
END
$$;

-- ---------------------------------------------------------------------------------------------------- the plan

-- The condition of a plan: of a policy, up to its cutoff of now, for one tenant or all; a session that is bound to a tenant has no other.
CREATE FUNCTION ops.planned_condition(policy ops.retention_policies, tenant uuid, holds boolean) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken CONSTANT text := ops.taken_condition(policy.id, now() - policy.age, holds);
    bound CONSTANT uuid := identity.current_tenant_id();
    whose CONSTANT uuid := COALESCE(bound, tenant);
BEGIN
    IF whose IS NULL OR taken IS NULL THEN
        RETURN taken;
    END IF;
    IF whose <> tenant OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attname = 'tenant_id'
        AND a.attrelid = to_regclass(format('%I.%I', policy.table_schema, policy.table_name))) THEN
        RETURN 'false';
    END IF;
    RETURN format('(%s) AND r0.tenant_id = %L', taken, whose);
END
$$;

-- What a policy would let go now, by tenant and month (UTC) of the age: rows, their bytes, and beside them the rows that a hold keeps.
-- Nothing where the policy is off. Only reads.
CREATE FUNCTION ops.plan_retention(policy_name text, tenant uuid DEFAULT NULL)
    RETURNS TABLE (tenant_id uuid, month text, row_count bigint, byte_count bigint, held_count bigint) LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    policy ops.retention_policies;
    relation regclass;
    old text;
BEGIN
    SELECT * INTO policy FROM ops.retention_policies p WHERE p.name = policy_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    relation := to_regclass(format('%I.%I', policy.table_schema, policy.table_name));
    old := ops.planned_condition(policy, tenant, false);
    IF old IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT o.tenant_id, o.month, count(*) FILTER (WHERE o.goes), '
            'COALESCE(sum(o.size) FILTER (WHERE o.goes), 0)::bigint, count(*) FILTER (WHERE NOT o.goes) FROM ('
            'SELECT %s AS tenant_id, to_char(r0.%I, ''YYYY-MM'') AS month, pg_column_size(r0.*) AS size, (%s) IS TRUE AS goes '
            'FROM %s r0 WHERE %s) AS o GROUP BY 1, 2 ORDER BY 2, 1',
            CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id')
                THEN 'r0.tenant_id' ELSE 'NULL::uuid' END,
            policy.age_column, ops.planned_condition(policy, tenant, true), relation, old);
    END IF;
END
$$;
COMMENT ON FUNCTION ops.plan_retention IS 'What a policy would let go now, by tenant and month.';

-- And what would go along with it, and the references that would become NULL.
CREATE FUNCTION ops.plan_dependents(policy_name text, tenant uuid DEFAULT NULL)
    RETURNS TABLE (dependent text, kind text, row_count bigint) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT d.dependent, d.kind, sum(d.row_count)::bigint FROM ops.retention_policies p
    CROSS JOIN LATERAL ops.planned_condition(p, tenant, true) AS c (condition)
    CROSS JOIN LATERAL ops.count_dependents(to_regclass(format('%I.%I', p.table_schema, p.table_name)), c.condition) AS d
    WHERE p.name = policy_name AND c.condition IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION ops.plan_dependents IS 'What would go along with the rows of a plan, by table.';

-- How many rows a policy's table has, of all tenants: what its share is of.
CREATE FUNCTION ops.plan_total(policy_name text) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT ops.count_table(to_regclass(format('%I.%I', p.table_schema, p.table_name))) FROM ops.retention_policies p
    WHERE p.name = policy_name
$$;
COMMENT ON FUNCTION ops.plan_total IS 'How many rows a policy''s table has.';

-- ---------------------------------------------------------------------------------------------------- runs

-- Begin a run of a policy for a task, or take up the one that was broken off. `asking` says that it waits for an operator, `busy` that
-- another task that lives is at it, or somebody changes the policy; `off` that it takes nothing. Who confirms is not asked.
CREATE FUNCTION ops.begin_retention(policy_name text, task uuid, is_confirmed boolean, OUT run uuid, OUT state text) LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    policy ops.retention_policies;
    known ops.retention_runs;
BEGIN
    SELECT * INTO policy FROM ops.retention_policies p WHERE p.name = policy_name FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        state := CASE WHEN EXISTS (SELECT FROM ops.retention_policies p WHERE p.name = policy_name) THEN 'busy' ELSE 'off' END;
        RETURN;
    END IF;
    IF policy.is_held OR NOT policy.is_enabled THEN
        state := 'off';
        RETURN;
    END IF;
    SELECT * INTO known FROM ops.retention_runs r WHERE r.policy_id = policy.id AND r.status IN ('running', 'asking') ORDER BY r.id LIMIT 1;
    run := known.id;
    state := 'running';
    IF run IS NULL THEN
        INSERT INTO ops.retention_runs AS r (policy_id, policy_name, tenant_id, task_id, table_schema, table_name, action, cutoff,
            schema_revision, confirmed_at)
        SELECT policy.id, policy.name, policy.tenant_id, task, policy.table_schema, policy.table_name, policy.action, now() - policy.age,
            max(v.version_num), CASE WHEN is_confirmed THEN now() END
        FROM public.alembic_version v RETURNING r.id INTO run;
    ELSIF known.status = 'asking' AND NOT is_confirmed THEN
        state := 'asking';
    ELSIF known.task_id <> task AND EXISTS (SELECT FROM queue.tasks_live t WHERE t.id = known.task_id) AND known.status = 'running' THEN
        state := 'busy';
    ELSE
        UPDATE ops.retention_runs r SET task_id = task, status = 'running',
            confirmed_at = CASE WHEN is_confirmed THEN COALESCE(r.confirmed_at, now()) ELSE r.confirmed_at END
        WHERE r.id = run;
    END IF;
END
$$;
COMMENT ON FUNCTION ops.begin_retention IS 'Begins a run of a policy, or goes on with one that was broken off.';

-- Note what a run is to take, and of how much. More than its policy's share of the table: it asks, unless an operator has confirmed it.
-- Returns the run's status.
CREATE FUNCTION ops.weigh_retention(run uuid) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    known ops.retention_runs;
    relation regclass;
    planned bigint;
    total bigint;
    said text;
BEGIN
    SELECT * INTO known FROM ops.retention_runs r WHERE r.id = run AND r.status = 'running';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF known.rows_planned IS NULL THEN
        relation := to_regclass(format('%I.%I', known.table_schema, known.table_name));
        EXECUTE format('SELECT count(*) FROM %s r0 WHERE %s', relation,
            COALESCE(ops.taken_condition(known.policy_id, known.cutoff), 'false')) INTO planned;
        total := GREATEST(ops.count_table(relation), planned);
    ELSE
        planned := known.rows_planned;
        total := known.rows_total;
    END IF;
    UPDATE ops.retention_runs r SET rows_planned = planned, rows_total = total,
        status = CASE WHEN r.confirmed_at IS NULL AND planned > total * p.most_share THEN 'asking' ELSE 'running' END
    FROM ops.retention_policies p
    WHERE r.id = run AND r.status = 'running' AND p.id = r.policy_id RETURNING r.status INTO said;
    RETURN said;
END
$$;
COMMENT ON FUNCTION ops.weigh_retention IS 'Notes what a run is to take; more than its policy''s share: it asks.';

-- Delete some rows with what goes along, as erasing (the log of changes heeds that, 0032), and note them. `rows` is a condition over r0
-- that names locked rows by their places.
CREATE FUNCTION ops.erase_taken(run uuid, relation regclass, rows text, size bigint) RETURNS bigint LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    gone bigint;
    along jsonb;
BEGIN
    SELECT jsonb_object_agg(t.dependent, t.counts) INTO along FROM (
        SELECT a.dependent, jsonb_object_agg(a.kind, a.row_count) AS counts FROM (
            SELECT d.dependent, d.kind, sum(d.row_count) AS row_count FROM (
                SELECT c.dependent, c.kind, c.row_count FROM ops.count_dependents(relation, rows) c
                UNION ALL
                SELECT o.key, n.key, n.value::bigint FROM ops.retention_runs r, jsonb_each(r.dependents) o, jsonb_each_text(o.value) n
                WHERE r.id = run
            ) AS d GROUP BY 1, 2
        ) AS a GROUP BY 1
    ) AS t;
    PERFORM set_config('app.erasing', 'on', true);
    EXECUTE format('DELETE FROM %s r0 WHERE %s', relation, rows);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('app.erasing', '', true);
    UPDATE ops.retention_runs r SET rows_deleted = r.rows_deleted + gone, byte_count = r.byte_count + size,
        rows_rolled_up = r.rows_rolled_up + CASE r.action WHEN 'roll_up' THEN gone ELSE 0 END, dependents = COALESCE(along, '{}')
    WHERE r.id = run;
    RETURN gone;
END
$$;

-- The next page of a run: lock up to `most` rows of those for which `condition` holds, delete them, and note how far it came; returns how
-- many went, and whether nothing is left behind. Rows that somebody holds are left for the next run. Rows come by their age where an
-- index has them in that order and little else beside them, each page behind the one before; else the table's blocks are walked, a few
-- of them a page. Sorting is off for the sake of that question: a plan that sorts all the same has no such index.
CREATE FUNCTION ops.take_page(run ops.retention_runs, age_column text, condition text, most integer, OUT rows_gone bigint, OUT is_over boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET enable_sort = off
    SET enable_incremental_sort = off AS $$
DECLARE
    relation CONSTANT regclass := to_regclass(format('%I.%I', run.table_schema, run.table_name));
    most_cost CONSTANT double precision := 20000; -- about 5,000 pages
    blocks CONSTANT integer := GREATEST(most / 50, 1);
    mode text := run.resume_after ->> 0;
    place text := COALESCE(run.resume_after ->> 1, '-infinity');
    aged CONSTANT text := format('(%s) AND r0.%2$I >= %3$L ORDER BY r0.%2$I LIMIT %4$s', condition, age_column,
        CASE WHEN mode = 'block' THEN '-infinity' ELSE place END, most);
    page record;
    plan json;
BEGIN
    IF mode IS NULL THEN
        EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM %s r0 WHERE %s', relation, aged) INTO plan;
        mode := CASE WHEN plan::text ~ '"Node Type": "(Incremental )?Sort"'
            OR (plan -> 0 -> 'Plan' ->> 'Total Cost')::double precision > most_cost THEN 'block' ELSE 'age' END;
        place := CASE mode WHEN 'block' THEN '0' ELSE place END;
    END IF;
    EXECUTE format('SELECT array_agg(s.tableoid) AS tables, array_agg(s.ctid) AS places, min(s.age) AS first, max(s.age) AS last, '
        'count(*) AS found, COALESCE(sum(s.size), 0)::bigint AS size '
        'FROM (SELECT r0.tableoid, r0.ctid, r0.%I AS age, pg_column_size(r0.*) AS size FROM %s r0 WHERE %s FOR UPDATE OF r0 SKIP LOCKED) AS s',
        age_column, relation, CASE mode WHEN 'age' THEN aged ELSE
            format('(%s) AND r0.ctid >= ''(%s,0)'' AND r0.ctid < ''(%s,0)''', condition, place, place::bigint + blocks) END) INTO page;
    rows_gone := 0;
    IF page.found > 0 THEN
        -- by their ages other months are not looked into
        rows_gone := ops.erase_taken(run.id, relation, format('r0.ctid = ANY (%L::tid[]) AND r0.%I BETWEEN %L AND %L '
            'AND (r0.tableoid, r0.ctid) IN (SELECT * FROM unnest(%L::oid[], %L::tid[]))',
            page.places, age_column, page.first, page.last, page.tables, page.places), page.size);
    END IF;
    IF mode = 'age' THEN
        is_over := page.found < most;
        place := COALESCE(page.last::text, place);
    ELSE
        place := place::bigint + blocks;
        is_over := place::bigint * current_setting('block_size')::bigint >= (
            SELECT max(pg_relation_size(c.oid)) FROM pg_class c
            WHERE c.oid = relation OR c.oid IN (SELECT t.relid FROM pg_partition_tree(relation) t));
    END IF;
    UPDATE ops.retention_runs r SET resume_after = jsonb_build_array(mode, place) WHERE r.id = run.id;
END
$$;

-- The next page of a run that goes by rows; returns how many went, and `more`, or `over` where nothing is left, or `ended` where the run
-- is, since its policy is off, held, gone or another one now.
CREATE FUNCTION ops.retention_page(run uuid, most integer, OUT rows_gone bigint, OUT state text) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    known ops.retention_runs;
    policy ops.retention_policies;
    condition text;
    page record;
BEGIN
    -- A hold that is set meanwhile waits for the end; one that stands is seen.
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    SELECT * INTO known FROM ops.retention_runs r WHERE r.id = run AND r.status = 'running' FOR UPDATE;
    SELECT * INTO policy FROM ops.retention_policies p WHERE p.id = known.policy_id AND p.action = known.action
        AND p.action IN ('delete', 'roll_up') AND (p.table_schema, p.table_name) = (known.table_schema, known.table_name);
    condition := ops.taken_condition(policy.id, LEAST(known.cutoff, now() - policy.age));
    IF condition IS NULL THEN
        UPDATE ops.retention_runs r SET status = 'cancelled', ended_at = clock_timestamp() WHERE r.id = known.id;
        rows_gone := 0;
        state := 'ended';
        RETURN;
    END IF;
    page := ops.take_page(known, policy.age_column, condition, most);
    rows_gone := page.rows_gone;
    state := CASE WHEN page.is_over THEN 'over' ELSE 'more' END;
END
$$;
COMMENT ON FUNCTION ops.retention_page IS 'Deletes the next rows of a run, with what goes along, and notes it.';

-- End a run: of what it was to take nothing is left but what a hold keeps, which is counted. Returns whether it ran.
CREATE FUNCTION ops.end_retention(run uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    known ops.retention_runs;
    relation regclass;
    held bigint := 0;
BEGIN
    SELECT * INTO known FROM ops.retention_runs r WHERE r.id = run AND r.status = 'running';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    relation := to_regclass(format('%I.%I', known.table_schema, known.table_name));
    IF ops.held_condition(relation) IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s r0 WHERE (%s) AND (%s) IS NOT TRUE', relation,
            COALESCE(ops.taken_condition(known.policy_id, known.cutoff, false), 'false'),
            COALESCE(ops.taken_condition(known.policy_id, known.cutoff), 'false')) INTO held;
    END IF;
    UPDATE ops.retention_runs r SET status = 'completed', rows_held = held, ended_at = clock_timestamp() WHERE r.id = known.id;
    RETURN true;
END
$$;
COMMENT ON FUNCTION ops.end_retention IS 'Ends a run, and notes how many rows a hold keeps.';

-- Drop a month that a roll-up has emptied; false where it is not empty, somebody uses it, or vacuum has not given it back: it stays for the
-- next run. Asked of the table: what is attached by hand may show its rows to nobody.
CREATE FUNCTION ops.drop_emptied(run uuid, leaf text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '50ms' AS $$
DECLARE
    month record;
    is_filled boolean;
    looks text;
BEGIN
    SELECT m.*, t.key, c.relname INTO month FROM ops.retention_runs r
    JOIN ops.months() m ON m.relation = to_regclass(format('%I.%I', r.table_schema, r.table_name)) AND m.until <= r.cutoff
    JOIN ops.parted_tables() t ON t.relation = m.relation JOIN pg_class c ON c.oid = m.leaf
    WHERE r.id = run AND r.status = 'running' AND r.action = 'roll_up' AND m.leaf = to_regclass(drop_emptied.leaf);
    IF NOT FOUND OR pg_relation_size(month.leaf) > 64 * 1024 * 1024 THEN
        RETURN false;
    END IF;
    looks := format('SELECT EXISTS (SELECT FROM %s r0 WHERE r0.%I >= %L AND r0.%I < %L)',
        month.relation, month.key, month.since, month.key, month.until);
    EXECUTE looks INTO is_filled;
    IF is_filled THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', month.leaf);
    EXECUTE looks INTO is_filled;
    IF is_filled THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %s', month.leaf);
    UPDATE ops.retention_runs r SET partitions_dropped = r.partitions_dropped || month.relname::text WHERE r.id = run;
    RETURN true;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.drop_emptied IS 'Drops a month that a roll-up has emptied, unless somebody uses it.';

-- As 0029 has it, but that what goes along is noted.
CREATE OR REPLACE FUNCTION ops.clear_month(run uuid, leaf text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    month record;
    counted record;
    page record;
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
    EXECUTE format('SELECT array_agg(s.ctid) AS places, COALESCE(sum(s.size), 0)::bigint AS size '
        'FROM (SELECT r0.ctid, pg_column_size(r0.*) AS size FROM %s r0 WHERE r0.%I >= %L AND r0.%I < %L LIMIT %L FOR UPDATE OF r0) AS s',
        month.relation, month.key, month.since, month.key, month.until, most) INTO page;
    IF page.places IS NULL THEN
        RETURN 0;
    END IF;
    RETURN ops.erase_taken(run, month.relation, format('r0.%I >= %L AND r0.%I < %L AND r0.ctid = ANY (%L::tid[])',
        month.key, month.since, month.key, month.until, page.places), page.size);
END
$$;

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION ops.taken_condition, ops.count_dependents, ops.count_table, ops.planned_condition, ops.plan_retention,
    ops.plan_dependents, ops.plan_total, ops.begin_retention, ops.weigh_retention, ops.erase_taken, ops.take_page, ops.retention_page,
    ops.end_retention, ops.drop_emptied FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.plan_retention, ops.plan_dependents, ops.plan_total TO greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION ops.begin_retention, ops.weigh_retention, ops.retention_page, ops.end_retention, ops.drop_emptied
    TO greenroom_system;
