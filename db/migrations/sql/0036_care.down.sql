-- Months are counted beside whoever writes to them.
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

DELETE FROM queue.alerts WHERE kind = 'missing_month';
ALTER TABLE queue.alerts DROP CONSTRAINT alerts_kind_check;
ALTER TABLE queue.alerts ADD CONSTRAINT alerts_kind_check
    CHECK (kind IN ('final_failures', 'stalled_queue', 'dead_loop', 'silent_process'));

DO $$
DECLARE
    relation regclass;
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        FOR relation IN SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) AS one
            WHERE one.privilege_type = 'MAINTAIN' AND one.grantee = 'greenroom_system'::regrole LOOP
            EXECUTE format('REVOKE MAINTAIN ON %s FROM greenroom_system', relation);
        END LOOP;
    END IF;
END
$$;
DROP FUNCTION ops.close_month, ops.drop_leftover_index, ops.leftover_indexes, ops.allow_maintenance, ops.kept_tables;
