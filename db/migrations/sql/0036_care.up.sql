-- Tables are looked after by tasks of the system role, which does not own them; a month that lacks is an alert; a month with held rows
-- takes no more rows while it is decided whether it goes.

-- ---------------------------------------------------------------------------------------------------- rights

-- Tables of ours with their partitions, months and spaces too, but what is another owner's.
CREATE FUNCTION ops.kept_tables() RETURNS TABLE (relation regclass, is_parted boolean) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass, c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relowner = (SELECT nspowner FROM pg_namespace WHERE nspname = 'ops')
        AND n.nspname IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops',
            'audit', 'queue')
$$;
COMMENT ON FUNCTION ops.kept_tables IS 'Tables of ours, with their partitions.';

-- Grant the system role what VACUUM, ANALYZE and REINDEX ask for on each table that came since the last time; returns whether it has it.
-- Before PostgreSQL 17 there is no such privilege: whoever logs in as the owner may. A table that somebody locks comes the next time.
CREATE FUNCTION ops.allow_maintenance() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    relation regclass;
BEGIN
    IF current_setting('server_version_num')::integer < 170000 THEN
        RETURN pg_has_role(session_user, current_user, 'USAGE');
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ops.allow_maintenance', 0)); -- two would grant on one table at once
    FOR relation IN SELECT t.relation FROM ops.kept_tables() t
        WHERE NOT has_table_privilege('greenroom_system', t.relation, 'MAINTAIN') LOOP
        BEGIN
            EXECUTE format('GRANT MAINTAIN ON %s TO greenroom_system', relation);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                CONTINUE;
        END;
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION ops.allow_maintenance IS 'Lets the system role vacuum, analyse and rebuild all tables, where the server knows that right.';

-- ---------------------------------------------------------------------------------------------------- left-over indexes

-- Indexes that a REINDEX CONCURRENTLY left behind that was killed: nobody reads them, and each write pays for them.
CREATE FUNCTION ops.leftover_indexes() RETURNS TABLE (index regclass) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid AND c.relkind = 'i'
    JOIN ops.kept_tables() t ON t.relation = x.indrelid
    WHERE NOT x.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' ORDER BY c.oid::regclass::text
$$;
COMMENT ON FUNCTION ops.leftover_indexes IS 'Invalid indexes that a broken off REINDEX CONCURRENTLY left behind.';

-- Drop one of them; false where somebody holds the table, as the rebuild does that it may be of, or it is none any more. What it
-- takes is locked against everybody, for as long as a name takes to go: one a transaction, and nobody waits longer than 50 ms behind it.
CREATE FUNCTION ops.drop_leftover_index(index text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ops.leftover_indexes() l WHERE l.index = to_regclass(drop_leftover_index.index)) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP INDEX %s', to_regclass(index));
    RETURN true;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.drop_leftover_index IS 'Drops an invalid index that a broken off rebuild left behind, unless somebody holds its table.';

-- ---------------------------------------------------------------------------------------------------- months

-- A month that lacks so late is not in the making.
ALTER TABLE queue.alerts DROP CONSTRAINT alerts_kind_check;
ALTER TABLE queue.alerts ADD CONSTRAINT alerts_kind_check
    CHECK (kind IN ('final_failures', 'stalled_queue', 'dead_loop', 'silent_process', 'missing_month'));

-- Let nobody write to a month that is about to go, from here to the end of the transaction, where a hold may speak of its rows: one that
-- came between the count and the drop would go, held as it is. False where somebody writes to it. A month that no hold speaks of is not
-- locked: whoever brings one of its ended tasks back to life would wait for the count.
CREATE FUNCTION ops.close_month(relation regclass, leaf regclass) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
BEGIN
    IF ops.held_condition(relation) IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', leaf);
    END IF;
    RETURN true;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.close_month IS 'Lets nobody write to a month that a hold may keep, while it is decided whether it goes.';

-- As 0029 has it, but for that.
CREATE OR REPLACE FUNCTION ops.drop_month(run uuid, leaf text, OUT outcome text, OUT rows_held bigint) LANGUAGE plpgsql SECURITY DEFINER
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
    IF NOT ops.close_month(month.relation, month.leaf) THEN
        outcome := 'busy';
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

-- As 0029 has it, but for that: one that is written to stays for the next run.
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

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION ops.kept_tables, ops.allow_maintenance, ops.leftover_indexes, ops.drop_leftover_index, ops.close_month
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.kept_tables, ops.leftover_indexes TO greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION ops.allow_maintenance, ops.drop_leftover_index TO greenroom_system;
