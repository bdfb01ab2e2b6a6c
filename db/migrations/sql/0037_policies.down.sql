-- Policies are looked at one by one, and runs go by what the policy alone says. A run that asks has not ended: it is cancelled. Where two
-- holds, or a hold and a policy, speak of the same, the index is refused: one of them is to be written otherwise before.

UPDATE ops.retention_runs SET status = 'cancelled', ended_at = clock_timestamp() WHERE status = 'asking';
CREATE OR REPLACE TRIGGER log_cleanup AFTER INSERT OR UPDATE ON ops.retention_runs FOR EACH ROW WHEN (NEW.status <> 'running')
    EXECUTE FUNCTION audit.log_cleanup();
CREATE OR REPLACE FUNCTION audit.log_cleanup() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status <> 'running' THEN
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

CREATE OR REPLACE FUNCTION ops.check_retention_policy() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation oid;
    parted_by text;
    broken text;
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
        WHEN NEW.age > interval '1000 years' THEN 'age'
        WHEN EXISTS (SELECT FROM jsonb_each(NEW.filter) AS f (name, wanted) WHERE jsonb_typeof(f.wanted) IN ('object', 'array')
            OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = f.name AND a.attnum > 0))
            THEN 'filter'
        WHEN NEW.action = 'drop_partition' AND parted_by IS DISTINCT FROM format('RANGE (%I)', NEW.age_column) THEN 'action'
        WHEN NEW.action = 'delete' AND NOT NEW.is_held AND (NEW.table_schema = 'audit'
            OR name IN ('governance.governance_events', 'governance.validation_results')) THEN 'action'
        WHEN NEW.tenant_id IS NOT NULL AND NOT EXISTS
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
                WHEN 'age' THEN 'At most 1000 years.'
                WHEN 'action' THEN 'drop_partition goes by the column that a table is parted by; the audit and decisions are not deleted '
                    'row by row.'
                ELSE 'The table''s columns; a filter has one value for each.' END;
    END IF;
    RETURN NULL;
END
$$;

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
    meant := format('r0.%I < %L AND %s AND to_jsonb(r0) @> %L', policy.age_column, cutoff, COALESCE(ops.filter_condition(relation, policy.filter), 'true'),
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

CREATE OR REPLACE FUNCTION ops.held_condition(relation regclass, above oid[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql STABLE
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
            EXECUTE format('SELECT EXISTS (SELECT FROM %s r WHERE r.%I = %L AND to_jsonb(r) @> %L)', relation,
                CASE WHEN relation = 'identity.tenants'::regclass THEN 'id' ELSE 'tenant_id' END, tenant,
                hold.filter || jsonb_strip_nulls(jsonb_build_object('persona_id', hold.persona_id))) INTO is_held;
        END IF;
        IF is_held THEN
            RETURN format('%s (%s)', hold.name, hold.hold_reason);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

DROP FUNCTION ops.retention_condition, ops.kept_condition, ops.own_holds, ops.contradicting_policy, ops.outranks, ops.scope_condition,
    ops.filter_condition, ops.filter_fits, ops.is_secret, ops.dependents, ops.references_to;
CREATE FUNCTION ops.filter_condition(relation regclass, filter jsonb) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('r0.%I = %L', f.key, f.value #>> '{}'), ' AND ' ORDER BY f.key)
    FROM jsonb_each(filter) f JOIN pg_attribute a ON a.attrelid = relation AND a.attname = f.key AND a.attnum > 0
    WHERE a.atttypid = 'text'::regtype AND jsonb_typeof(f.value) = 'string'
$$;
COMMENT ON FUNCTION ops.filter_condition IS 'What a policy says of texts, as SQL over r0: by the JSON of a row alone, no index is used.';
REVOKE EXECUTE ON FUNCTION ops.filter_condition FROM PUBLIC;

ALTER TABLE ops.retention_runs
    DROP CONSTRAINT retention_runs_asking_says_what_check,
    DROP CONSTRAINT retention_runs_status_check,
    DROP CONSTRAINT retention_runs_status_says_when_check,
    ADD CONSTRAINT retention_runs_status_check CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    ADD CONSTRAINT retention_runs_status_says_when_check CHECK ((status = 'running') = (ended_at IS NULL)),
    DROP COLUMN rows_planned, DROP COLUMN rows_total, DROP COLUMN confirmed_at;
DROP INDEX ops.retention_policies_scope_key;
CREATE UNIQUE INDEX retention_policies_scope_key ON ops.retention_policies (table_schema, table_name, filter, tenant_id, persona_id) NULLS NOT DISTINCT;
ALTER TABLE ops.retention_policies DROP COLUMN cadence, DROP COLUMN most_share;
