-- Runs are begun by `partitions.maintain` and by hand; what goes along is not noted.
CREATE OR REPLACE FUNCTION ops.clear_month(run uuid, leaf text, most integer DEFAULT 10000) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
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

DROP FUNCTION ops.drop_emptied, ops.end_retention, ops.retention_page, ops.take_page, ops.erase_taken, ops.weigh_retention,
    ops.begin_retention, ops.plan_total, ops.plan_dependents, ops.plan_retention, ops.planned_condition, ops.count_table,
    ops.count_dependents, ops.taken_condition;
ALTER TABLE ops.retention_runs DROP COLUMN dependents;
