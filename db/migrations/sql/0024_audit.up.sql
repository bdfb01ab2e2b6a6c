-- The data model: the audit. What changed in which row, by trigger, and never to be changed again (002).

-- ---------------------------------------------------------------------------------------------------- helpers

COMMENT ON TABLE audit.audit_events IS 'A deed: who did what to which thing, and how it ended. Only ever added.';
COMMENT ON COLUMN audit.audit_events.event_type IS 'tool_call, rag_retrieval, document.deleted …';
COMMENT ON COLUMN audit.audit_events.actor IS 'The login';

-- Who changes something: the product's user that the session names, or the login. Settings are texts and may hold anything.
CREATE FUNCTION audit.session_actor() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(COALESCE(NULLIF(current_setting('app.current_user_id', true), ''), NULLIF(current_setting('app.current_user', true), ''),
        session_user), 255)
$$;

-- What ties changes together, if the session names it by a UUID; anything else is no reason to refuse a write.
CREATE FUNCTION audit.session_correlation_id() RETURNS uuid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN pg_input_is_valid(current_setting('app.correlation_id', true), 'uuid')
        THEN current_setting('app.correlation_id', true)::uuid END
$$;

-- As before, and a month has its table's triggers on TRUNCATE: ATTACH brings those for each row only.
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

-- ---------------------------------------------------------------------------------------------------- the log

CREATE TABLE audit.audit_log (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    record_id text NOT NULL,
    operation text NOT NULL,
    old_values jsonb,
    new_values jsonb,
    changed_columns text[],
    changed_by text DEFAULT audit.session_actor() NOT NULL,
    actor text DEFAULT session_user NOT NULL,
    correlation_id uuid DEFAULT audit.session_correlation_id(),
    changed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id, changed_at),
    CONSTRAINT audit_log_table_schema_check CHECK (length(table_schema) BETWEEN 1 AND 63),
    CONSTRAINT audit_log_table_name_check CHECK (length(table_name) BETWEEN 1 AND 100),
    CONSTRAINT audit_log_operation_check CHECK (operation IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'CLEANUP', 'ARCHIVE')),
    CONSTRAINT audit_log_changed_by_check CHECK (length(changed_by) <= 255),
    CONSTRAINT audit_log_actor_check CHECK (length(actor) <= 255)
) PARTITION BY RANGE (changed_at);
CREATE INDEX audit_log_changed_by_changed_at_idx ON audit.audit_log (changed_by, changed_at);
CREATE INDEX audit_log_correlation_id_idx ON audit.audit_log (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX audit_log_record_idx ON audit.audit_log (table_schema, table_name, record_id, changed_at);
CREATE INDEX audit_log_tenant_id_changed_at_idx ON audit.audit_log (tenant_id, changed_at);
COMMENT ON TABLE audit.audit_log IS 'A row''s change, written by triggers alone: never changed, never deleted but by the month.';
COMMENT ON COLUMN audit.audit_log.tenant_id IS 'The row''s tenant, there or gone';
COMMENT ON COLUMN audit.audit_log.record_id IS 'The row''s key as text; * for all rows';
COMMENT ON COLUMN audit.audit_log.old_values IS 'Without secrets and what opens them';
COMMENT ON COLUMN audit.audit_log.new_values IS 'Without secrets and what opens them';
COMMENT ON COLUMN audit.audit_log.changed_columns IS 'Of an UPDATE; names those that are not copied too';
COMMENT ON COLUMN audit.audit_log.changed_by IS 'The session''s user (app.current_user_id or app.current_user), or its login';
COMMENT ON COLUMN audit.audit_log.actor IS 'The login';
COMMENT ON COLUMN audit.audit_log.correlation_id IS 'app.correlation_id, where it is a UUID';

CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'audit.audit_log is only ever added to: no %', TG_OP USING ERRCODE = 'check_violation',
        SCHEMA = 'audit', TABLE = 'audit_log', CONSTRAINT = 'audit_log_is_append_only',
        HINT = 'A month as a whole goes by detaching and dropping its partition.';
END
$$;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON audit.audit_log FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit.audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
SELECT ops.create_months();

-- Note a row's change. Its arguments are columns never to copy, on top of those that hold secrets and hashes; that one of them
-- changed is noted. A partition's rows are its table's. What changes nothing but updated_at, and the version that counts writes, is
-- no change.
CREATE FUNCTION audit.log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation CONSTANT regclass := COALESCE(pg_partition_root(TG_RELID), TG_RELID);
    hidden CONSTANT text[] := ARRAY['password_hash', 'token_hash', 'key_hash', 'ciphertext', 'encrypted_value', 'encrypted_key']
        || COALESCE(TG_ARGV, '{}');
    before jsonb;
    after jsonb;
    changed text[];
    noted jsonb;
    key text;
    owner text;
    tenant uuid;
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        before := to_jsonb(OLD);
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        after := to_jsonb(NEW);
    END IF;
    IF TG_OP = 'UPDATE' THEN
        SELECT array_agg(a.key ORDER BY a.key) INTO changed FROM jsonb_each(after) a
        WHERE a.value IS DISTINCT FROM before -> a.key AND a.key NOT IN ('updated_at', 'version');
        IF changed IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    noted := COALESCE(after, before, '{}');
    key := noted ->> 'id';
    IF key IS NULL THEN
        SELECT string_agg(noted ->> a.attname, ',' ORDER BY k.position) INTO key
        FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (number, position)
        JOIN pg_attribute a ON a.attnum = k.number
        WHERE i.indrelid = relation AND i.indisprimary AND a.attrelid = relation;
    END IF;
    owner := CASE WHEN relation = 'identity.tenants'::regclass THEN key ELSE noted ->> 'tenant_id' END;
    IF pg_input_is_valid(owner, 'uuid') THEN
        tenant := owner::uuid;
    END IF;
    INSERT INTO audit.audit_log (tenant_id, table_schema, table_name, record_id, operation, old_values, new_values, changed_columns)
    SELECT tenant, n.nspname, c.relname, COALESCE(key, '*'), TG_OP,
        before - hidden, after - hidden, changed
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    RETURN NULL;
END
$$;

-- Note what a run of a retention policy took away (002's CLEANUP), once it is over: rows that the policy's table had.
CREATE FUNCTION audit.log_cleanup() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
CREATE TRIGGER log_cleanup AFTER INSERT OR UPDATE ON ops.retention_runs FOR EACH ROW WHEN (NEW.status <> 'running')
    EXECUTE FUNCTION audit.log_cleanup();

-- What is audited: by 002 users, sessions of agents, events; and who may do something, personas, secrets, policies.
DO $$
DECLARE
    relation regclass;
    part regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['identity.tenants', 'identity.users', 'identity.api_keys', 'identity.operators', 'assistants.personas',
            'ops.retention_policies', 'governance.agent_sessions', 'governance.governance_events', 'vault.secrets',
            'vault.provider_keys']::regclass[] LOOP
        EXECUTE format('CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
            'EXECUTE FUNCTION audit.log_change()', relation);
        FOR part IN SELECT relation UNION SELECT relid FROM pg_partition_tree(relation) LOOP
            EXECUTE format('CREATE TRIGGER log_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change()', part);
        END LOOP;
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- row security and grants

-- Nobody writes but the triggers' functions, which are the owner's. An operator without a tenant sees what is of no tenant.
ALTER TABLE audit.audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_log FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_passes ON audit.audit_log TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY roles_pass ON audit.audit_log FOR SELECT TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader
    USING (true);
CREATE POLICY tenant_binds ON audit.audit_log AS RESTRICTIVE FOR SELECT TO greenroom_worker, greenroom_reader
    USING (tenant_id = (SELECT identity.current_tenant_id()));
CREATE POLICY operator_binds ON audit.audit_log AS RESTRICTIVE FOR SELECT TO greenroom_operator
    USING (tenant_id = (SELECT identity.current_tenant_id()) OR tenant_id IS NULL AND (SELECT identity.current_tenant_id()) IS NULL);
-- Who acts for a user sees what that user changed: the log would tell what the tables' own policies hide.
SELECT ops.bind_to_user('audit.audit_log', 'changed_by = (SELECT identity.current_user_id())::text');
GRANT SELECT ON audit.audit_log TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
REVOKE EXECUTE ON FUNCTION audit.log_change, audit.log_cleanup, audit.refuse_change, audit.session_actor, audit.session_correlation_id
    FROM PUBLIC;
