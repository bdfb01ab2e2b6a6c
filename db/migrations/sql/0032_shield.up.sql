-- What a hostile reader found open: users who reach into each other's rows, deletions that leave a copy, approvals that count twice,
-- policies that reach anything, secrets under another label or outside the vault.

-- ---------------------------------------------------------------------------------------------------- users and each other

-- A user's conversation is with personas and clients of the user's own. Without this, who acts for one user would have another's persona
-- talk, with another's client, at another's cost.
ALTER POLICY user_binds ON assistants.conversations WITH CHECK ((SELECT identity.current_user_id()) IS NULL OR (
    CASE WHEN user_id IS NULL THEN persona_id IS NOT NULL ELSE user_id = (SELECT identity.current_user_id()) END
    AND (persona_id IS NULL OR EXISTS (SELECT FROM assistants.voice_personas p
        WHERE p.id = conversations.persona_id AND p.user_id = (SELECT identity.current_user_id())))
    AND (client_id IS NULL OR EXISTS (SELECT FROM assistants.clients l
        WHERE l.id = conversations.client_id AND l.user_id = (SELECT identity.current_user_id())))));
-- And an agent works within the user's own time with the product.
ALTER POLICY user_binds ON governance.agent_sessions WITH CHECK ((SELECT identity.current_user_id()) IS NULL OR (
    user_id = (SELECT identity.current_user_id())
    AND (session_id IS NULL OR EXISTS (SELECT FROM identity.user_sessions s
        WHERE s.id = agent_sessions.session_id AND s.user_id = (SELECT identity.current_user_id())))));

-- Who acts for a user gives no role and no permission, and lifts no suspension. Runs after row security.
CREATE FUNCTION identity.refuse_promotion() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF identity.current_user_id() IS NOT NULL THEN
        RAISE EXCEPTION 'who acts for a user gives no role and no permission, and lifts no suspension'
            USING ERRCODE = 'insufficient_privilege', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                CONSTRAINT = TG_TABLE_NAME || '_promotion_check';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER refuse_promotion AFTER UPDATE ON identity.users FOR EACH ROW
    WHEN (OLD.role <> NEW.role OR OLD.permissions <> NEW.permissions OR OLD.status = 'suspended' AND NEW.status <> 'suspended')
    EXECUTE FUNCTION identity.refuse_promotion();
CREATE TRIGGER refuse_promotion_at_first AFTER INSERT ON identity.users FOR EACH ROW
    WHEN (NEW.role = 'admin' OR NEW.permissions <> '[]') EXECUTE FUNCTION identity.refuse_promotion();
-- One who deletes themselves and comes again would have lost a suspension, or be more than a viewer.
CREATE TRIGGER refuse_promotion_at_last AFTER DELETE ON identity.users FOR EACH ROW
    WHEN (OLD.status = 'suspended' OR OLD.role = 'viewer') EXECUTE FUNCTION identity.refuse_promotion();
-- A key that was closed is opened by nobody who acts for its user, and opens no more than it did.
CREATE TRIGGER refuse_promotion AFTER UPDATE ON identity.api_keys FOR EACH ROW
    WHEN (OLD.scopes <> NEW.scopes OR OLD.status <> 'active' AND NEW.status = 'active' OR OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL
        OR OLD.expires_at IS NOT NULL AND COALESCE(NEW.expires_at > OLD.expires_at, true))
    EXECUTE FUNCTION identity.refuse_promotion();

-- What a persona's conversation costs is its user's. Where row security hides the persona it is nobody's, and not who talked to it.
DO $$
DECLARE
    known CONSTANT text := pg_get_viewdef('billing.token_usage_by_user'::regclass);
    changed CONSTANT text := replace(known, ', c.user_id)', ', CASE WHEN c.persona_id IS NULL THEN c.user_id END)');
BEGIN
    ASSERT changed <> known, 'billing.token_usage_by_user is another one';
    EXECUTE 'CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS ' || changed;
END
$$;

-- ---------------------------------------------------------------------------------------------------- what is erased is gone

-- Whether the transaction erases: functions of the owner say so while they delete. A setting may be written by anybody, so it counts
-- for sessions of the system role, which alone may call those functions, and of the owner.
CREATE FUNCTION audit.is_erasing() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(current_setting('app.erasing', true) = 'on', false)
        AND (session_user = current_user OR pg_has_role(session_user, 'greenroom_system', 'MEMBER'))
$$;

-- What retention deletes is noted by its key alone: a copy in the log would keep it. And what the log holds of a record can be
-- emptied, by the owner's functions; that there was a change, when and by whom, stays. Both as a whole, with what 0026 and 0028
-- made of them.
CREATE OR REPLACE FUNCTION audit.log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
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
        WHERE a.value IS DISTINCT FROM before -> a.key AND a.key NOT IN ('updated_at', 'version', 'last_used_at', 'last_active_at');
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
    IF TG_OP = 'DELETE' AND relation <> 'identity.tenants'::regclass
        AND EXISTS (SELECT FROM identity.tenants t WHERE t.id = tenant AND t.status = 'deleted') THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit.audit_log (tenant_id, table_schema, table_name, record_id, operation, old_values, new_values, changed_columns)
    SELECT tenant, n.nspname, c.relname, COALESCE(key, '*'), TG_OP,
        CASE WHEN TG_OP <> 'DELETE' OR NOT audit.is_erasing() THEN before - hidden END, after - hidden, changed
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation CONSTANT name := (SELECT relname FROM pg_class WHERE oid = COALESCE(pg_partition_root(TG_RELID), TG_RELID));
BEGIN
    IF TG_OP = 'UPDATE' AND audit.is_erasing() THEN
        IF to_jsonb(NEW) = to_jsonb(OLD) || '{"old_values": null, "new_values": null}' THEN
            RETURN NEW;
        END IF;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status = 'deleted') THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit.% is only ever added to: no %', relation, TG_OP USING ERRCODE = 'check_violation',
        SCHEMA = 'audit', TABLE = relation, CONSTRAINT = relation || '_is_append_only',
        HINT = 'A month as a whole goes by detaching and dropping its partition.';
END
$$;

-- Erase a user: the row, all that goes with it, and what the log holds of either, also of a user who is gone already; returns how many
-- notes were emptied. What was decided about the user's agents is kept (002). A hold refuses (GR005).
CREATE FUNCTION identity.erase_user(tenant uuid, erased uuid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    is_held boolean;
    emptied bigint;
    -- What the log holds of the user, over r0.
    noted CONSTANT text := format($q$r0.tenant_id = %1$L AND num_nonnulls(r0.old_values, r0.new_values) > 0
        AND (r0.table_schema, r0.table_name) <> ('governance', 'governance_events')
        AND ((r0.table_schema, r0.table_name, r0.record_id) = ('identity', 'users', %2$L)
            OR %2$L IN (r0.old_values ->> 'user_id', r0.new_values ->> 'user_id', r0.old_values ->> 'owner_id',
                r0.new_values ->> 'owner_id'))$q$, tenant, erased::text);
BEGIN
    -- A hold that is set meanwhile waits for the end; one that stands is seen.
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    EXECUTE format('SELECT EXISTS (SELECT FROM identity.users r0 WHERE r0.id = %L AND r0.tenant_id = %L AND (%s)) '
        'OR EXISTS (SELECT FROM audit.audit_log r0 WHERE (%s) AND (%s))', erased, tenant,
        COALESCE(ops.held_condition('identity.users'), 'false'), noted,
        COALESCE(ops.held_condition('audit.audit_log'), 'false')) INTO is_held;
    IF is_held THEN
        RAISE EXCEPTION 'the user % is held', erased USING ERRCODE = 'GR005',
            HINT = 'A policy with is_held speaks of the user, or of what would go along.';
    END IF;
    PERFORM set_config('app.erasing', 'on', true);
    DELETE FROM identity.users u WHERE u.id = erased AND u.tenant_id = tenant;
    EXECUTE 'UPDATE audit.audit_log r0 SET old_values = NULL, new_values = NULL WHERE ' || noted;
    GET DIAGNOSTICS emptied = ROW_COUNT;
    PERFORM set_config('app.erasing', '', true);
    RETURN emptied;
END
$$;
COMMENT ON FUNCTION identity.erase_user IS 'Erases a user, all that goes with the row, and what the log of changes holds of either.';

-- An identity is written in one way, however the session writes it: by it a user finds what they changed.
CREATE OR REPLACE FUNCTION audit.session_actor() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(COALESCE(CASE WHEN pg_input_is_valid(current_setting('app.current_user_id', true), 'uuid')
            THEN current_setting('app.current_user_id', true)::uuid::text END,
        NULLIF(current_setting('app.current_user_id', true), ''), NULLIF(current_setting('app.current_user', true), ''), session_user), 255)
$$;

-- ---------------------------------------------------------------------------------------------------- approval

-- No session runs without approval (002): the newest of the decisions that let agents start or stop them approves this user's agent of
-- this type. Of those of one moment a refusal is the newest. What has ended (completed, failed, cancelled) is ended until it is approved
-- anew, and its end is not dated back. A session that already runs is left alone, unless it becomes another. Looks as the owner: a
-- user who sees less must not run more.
CREATE OR REPLACE FUNCTION governance.check_approval() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended CONSTANT text[] := ARRAY['completed', 'failed', 'cancelled'];
    since timestamptz;
    newest record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- What ends now has not ended before, whatever its writer's clock says: an approval is older than that.
        IF NOT OLD.status = ANY (ended) AND NEW.status = ANY (ended) THEN
            NEW.completed_at := GREATEST(NEW.completed_at, now());
            RETURN NEW;
        END IF;
        IF OLD.status = 'running'
            AND (OLD.id, OLD.tenant_id, OLD.user_id, OLD.agent_type) = (NEW.id, NEW.tenant_id, NEW.user_id, NEW.agent_type)
        THEN
            RETURN NEW;
        END IF;
        IF OLD.status = ANY (ended) AND NEW.status = ANY (ended) THEN
            IF NEW.completed_at IS DISTINCT FROM OLD.completed_at
                AND COALESCE(NEW.completed_at, '-infinity') < COALESCE(OLD.completed_at, OLD.updated_at)
            THEN
                RAISE EXCEPTION 'agent session % ended at %, and not before', NEW.id, COALESCE(OLD.completed_at, OLD.updated_at) USING ERRCODE = 'check_violation',
                    CONSTRAINT = 'agent_sessions_end_stays_check', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME;
            END IF;
            RETURN NEW;
        END IF;
        IF OLD.status = ANY (ended) THEN
            since := COALESCE(OLD.completed_at, OLD.updated_at);
        END IF;
    END IF;
    SELECT e.approved AND e.event_type IN ('pre_agent_spawn', 'consensus_check') AS approves, e.user_id, e.agent_type, e.created_at
    INTO newest FROM governance.governance_events e
    WHERE e.agent_session_id = NEW.id AND e.tenant_id = NEW.tenant_id
        AND e.event_type IN ('pre_agent_spawn', 'consensus_check', 'emergency_stop', 'circuit_breaker')
        -- one that is dated ahead approves nothing yet
        AND (e.created_at <= clock_timestamp() OR NOT e.approved OR e.event_type IN ('emergency_stop', 'circuit_breaker'))
    ORDER BY e.created_at DESC, approves LIMIT 1;
    IF NOT FOUND OR NOT newest.approves OR newest.user_id <> NEW.user_id OR newest.agent_type <> NEW.agent_type
        OR newest.created_at <= since
    THEN
        RAISE EXCEPTION 'agent session % cannot run without approval', NEW.id USING ERRCODE = '23514',
            CONSTRAINT = 'agent_sessions_approval_check', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'An event pre_agent_spawn or consensus_check approves it, for its user and agent type: later than its end, and than '
                'what stopped it.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER keep_end BEFORE UPDATE ON governance.agent_sessions FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled') OR OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> 'running')
    EXECUTE FUNCTION governance.check_approval();
-- An erasure is done by functions of the owner.
REVOKE DELETE ON governance.governance_events, governance.validation_results FROM greenroom_system;

-- ---------------------------------------------------------------------------------------------------- retention

-- As before, and a policy lets go neither what steers the installation nor what proves what was done: of the queue its history, of
-- tables that are parted the whole, of the audit and of decisions by the month or into an archive. A hold may speak of any table.
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

-- ---------------------------------------------------------------------------------------------------- the vault

-- A secret stays whose it is and what it is for: it opens in its row, whatever label that has. Runs after row security.
CREATE FUNCTION vault.refuse_label() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'a secret of vault.% stays under its label', TG_TABLE_NAME USING ERRCODE = 'check_violation',
        SCHEMA = 'vault', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_label_stays_check',
        HINT = 'Write it anew under the other one, and delete this one.';
END
$$;
CREATE TRIGGER refuse_label AFTER UPDATE ON vault.secrets FOR EACH ROW
    WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.tenant_id IS DISTINCT FROM NEW.tenant_id OR OLD.persona_id IS DISTINCT FROM NEW.persona_id
        OR OLD.secret_type IS DISTINCT FROM NEW.secret_type OR OLD.key_name IS DISTINCT FROM NEW.key_name)
    EXECUTE FUNCTION vault.refuse_label();
CREATE TRIGGER refuse_label AFTER UPDATE ON vault.provider_keys FOR EACH ROW
    WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.tenant_id IS DISTINCT FROM NEW.tenant_id OR OLD.user_id IS DISTINCT FROM NEW.user_id
        OR OLD.service IS DISTINCT FROM NEW.service)
    EXECUTE FUNCTION vault.refuse_label();

-- Whether a name in a configuration is that of a secret: its last word is key, token, password or the like. Not the keys of tables and
-- the tokens of models.
CREATE FUNCTION vault.names_secret(name text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT word ~ '(^|[^a-z])(api)?(key|token|password|passwd|passphrase|secret|credential)s?[^a-z]*$'
        AND word !~ '(^|[^a-z])(primary|foreign|sort|partition|cache|public|bos|eos|pad|unk|mask|stop)[^a-z]*(key|token)s?$'
    FROM lower(regexp_replace(name, '([a-z0-9])([A-Z])', '\1_\2', 'g')) AS word
$$;
COMMENT ON FUNCTION vault.names_secret IS 'Whether a name in a configuration is that of a secret.';

-- In a configuration a secret stands as {"secret": id} or {"provider_key": id}, a row of the same tenant's in the vault (0009). Its
-- arguments are columns of JSON; one is looked at when it is written or changed. Looks as the owner, and says no value.
CREATE FUNCTION vault.check_references() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    before CONSTANT jsonb := CASE TG_OP WHEN 'UPDATE' THEN to_jsonb(OLD) END;
    after CONSTANT jsonb := to_jsonb(NEW);
    checked text;
    clear record;
BEGIN
    FOREACH checked IN ARRAY TG_ARGV LOOP
        CONTINUE WHEN before -> checked IS NOT DISTINCT FROM after -> checked;
        SELECT m.key, m.value, r.is_reference INTO clear
        FROM jsonb_path_query(after -> checked, 'strict $.** ? (@.type() == "object")') AS o (object)
        CROSS JOIN LATERAL (
            SELECT o.object - ARRAY['secret', 'provider_key'] = '{}' AND num_nonnulls(o.object -> 'secret', o.object -> 'provider_key') = 1
                AND COALESCE(pg_input_is_valid(COALESCE(o.object ->> 'secret', o.object ->> 'provider_key'), 'uuid'), false)
        ) AS r (is_reference)
        CROSS JOIN LATERAL jsonb_each(o.object) AS m
        WHERE CASE
            WHEN r.is_reference THEN NOT EXISTS (
                SELECT FROM vault.secrets s
                WHERE m.key = 'secret' AND s.id = (m.value #>> '{}')::uuid AND s.tenant_id = NEW.tenant_id
                UNION ALL
                SELECT FROM vault.provider_keys p
                WHERE m.key = 'provider_key' AND p.id = (m.value #>> '{}')::uuid AND p.tenant_id = NEW.tenant_id)
            WHEN NOT vault.names_secret(m.key) THEN false
            WHEN jsonb_typeof(m.value) = 'string' THEN m.value <> '""'
            WHEN jsonb_typeof(m.value) = 'array' THEN m.value @? '$[*] ? (@.type() == "string")'
            -- many of them by their names, or one reference
            WHEN jsonb_typeof(m.value) = 'object' THEN m.key !~* 's[^a-z]*$'
                AND (m.value = '{}' OR m.value - ARRAY['secret', 'provider_key'] <> '{}')
            ELSE false
        END LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION '% of %.% %', clear.key, TG_TABLE_NAME, checked, CASE WHEN clear.is_reference
                    THEN 'refers to nothing in the tenant''s vault' ELSE 'holds a secret in clear' END
                USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                    CONSTRAINT = format('%s_%s_reference_check', TG_TABLE_NAME, checked),
                    HINT = 'Put it into the vault, and {"secret": id} or {"provider_key": id} here.';
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER check_references AFTER INSERT OR UPDATE OF config, environment ON tools.mcp_server_configs FOR EACH ROW
    EXECUTE FUNCTION vault.check_references('config', 'environment');
CREATE TRIGGER check_references AFTER INSERT OR UPDATE OF config ON tools.persona_tools FOR EACH ROW
    EXECUTE FUNCTION vault.check_references('config');
CREATE TRIGGER check_references AFTER INSERT OR UPDATE OF agent_config ON governance.agent_sessions FOR EACH ROW
    EXECUTE FUNCTION vault.check_references('agent_config');

-- ---------------------------------------------------------------------------------------------------- keys, indexes, grants

-- A tenant that goes takes its servers along.
CREATE INDEX mcp_servers_tenant_id_idx ON tools.mcp_servers (tenant_id);

-- A key that is unique across tenants tells one what another has: who offers a row of another's user, or persona, learns whether there is
-- one. With the tenant in the key such a row is refused by the reference alone.
ALTER TABLE vault.provider_keys DROP CONSTRAINT provider_keys_user_id_service_key,
    ADD CONSTRAINT provider_keys_user_id_service_tenant_id_key UNIQUE (user_id, service, tenant_id);
ALTER TABLE assistants.voice_personas DROP CONSTRAINT voice_personas_user_id_youtube_url_key,
    ADD CONSTRAINT voice_personas_user_id_youtube_url_tenant_id_key UNIQUE (user_id, youtube_url, tenant_id);
ALTER TABLE assistants.persona_profiles DROP CONSTRAINT persona_profiles_persona_id_key,
    ADD CONSTRAINT persona_profiles_persona_id_tenant_id_key UNIQUE (persona_id, tenant_id);
ALTER TABLE people.mindscapes DROP CONSTRAINT mindscapes_person_id_key,
    ADD CONSTRAINT mindscapes_person_id_tenant_id_key UNIQUE (person_id, tenant_id);
ALTER TABLE mail.mailboxes DROP CONSTRAINT mailboxes_persona_id_address_key,
    ADD CONSTRAINT mailboxes_persona_id_address_tenant_id_key UNIQUE (persona_id, address, tenant_id);
DROP INDEX assistants.clients_user_telegram_key;
CREATE UNIQUE INDEX clients_user_telegram_key ON assistants.clients (user_id, telegram_id, tenant_id) WHERE telegram_id IS NOT NULL;

REVOKE EXECUTE ON FUNCTION identity.refuse_promotion, identity.erase_user, audit.is_erasing, governance.check_approval,
    vault.refuse_label, vault.names_secret, vault.check_references FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identity.erase_user TO greenroom_system;
