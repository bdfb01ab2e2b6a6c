-- As it was left open before. What was erased stays so.

ALTER TABLE vault.provider_keys DROP CONSTRAINT provider_keys_user_id_service_tenant_id_key,
    ADD CONSTRAINT provider_keys_user_id_service_key UNIQUE (user_id, service);
ALTER TABLE assistants.voice_personas DROP CONSTRAINT voice_personas_user_id_youtube_url_tenant_id_key,
    ADD CONSTRAINT voice_personas_user_id_youtube_url_key UNIQUE (user_id, youtube_url);
ALTER TABLE assistants.persona_profiles DROP CONSTRAINT persona_profiles_persona_id_tenant_id_key,
    ADD CONSTRAINT persona_profiles_persona_id_key UNIQUE (persona_id);
ALTER TABLE people.mindscapes DROP CONSTRAINT mindscapes_person_id_tenant_id_key,
    ADD CONSTRAINT mindscapes_person_id_key UNIQUE (person_id);
ALTER TABLE mail.mailboxes DROP CONSTRAINT mailboxes_persona_id_address_tenant_id_key,
    ADD CONSTRAINT mailboxes_persona_id_address_key UNIQUE (persona_id, address);
DROP INDEX assistants.clients_user_telegram_key;
CREATE UNIQUE INDEX clients_user_telegram_key ON assistants.clients (user_id, telegram_id) WHERE telegram_id IS NOT NULL;
DROP INDEX tools.mcp_servers_tenant_id_idx;

DROP TRIGGER check_references ON governance.agent_sessions;
DROP TRIGGER check_references ON tools.persona_tools;
DROP TRIGGER check_references ON tools.mcp_server_configs;
DROP FUNCTION vault.check_references, vault.names_secret;
DROP TRIGGER refuse_label ON vault.provider_keys;
DROP TRIGGER refuse_label ON vault.secrets;
DROP FUNCTION vault.refuse_label;

-- To the letter as they were.
CREATE OR REPLACE FUNCTION ops.check_retention_policy() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation oid;
    parted_by text;
    broken text;
BEGIN
    SELECT c.oid, pg_get_partkeydef(c.oid) INTO relation, parted_by FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = NEW.table_schema AND c.relname = NEW.table_name AND c.relkind IN ('r', 'p')
        AND n.nspname IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops',
            'audit', 'queue');
    broken := CASE
        WHEN relation IS NULL THEN 'table_name'
        WHEN NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = NEW.age_column AND a.attnum > 0
            AND a.atttypid = 'timestamptz'::regtype) THEN 'age_column'
        WHEN EXISTS (SELECT FROM jsonb_each(NEW.filter) AS f (name, wanted) WHERE jsonb_typeof(f.wanted) IN ('object', 'array')
            OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = f.name AND a.attnum > 0))
            THEN 'filter'
        WHEN NEW.action = 'drop_partition' AND parted_by IS DISTINCT FROM format('RANGE (%I)', NEW.age_column) THEN 'action'
        WHEN NEW.tenant_id IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id') THEN 'tenant_id'
        WHEN NEW.persona_id IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'persona_id') THEN 'persona_id'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'retention cannot go by this % of %.%', broken, NEW.table_schema, NEW.table_name USING ERRCODE = 'check_violation',
            SCHEMA = 'ops', TABLE = 'retention_policies', CONSTRAINT = format('retention_policies_%s_check', broken);
    END IF;
    RETURN NULL;
END
$$;

GRANT DELETE ON governance.governance_events, governance.validation_results TO greenroom_system;
DROP TRIGGER keep_end ON governance.agent_sessions;
CREATE OR REPLACE FUNCTION governance.check_approval() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status = 'running' AND OLD.id = NEW.id AND OLD.tenant_id = NEW.tenant_id THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (
        SELECT FROM governance.governance_events e
        WHERE e.agent_session_id = NEW.id AND e.tenant_id = NEW.tenant_id AND e.approved
            AND e.event_type IN ('pre_agent_spawn', 'consensus_check')
    ) THEN
        RAISE EXCEPTION 'agent session % cannot run without approval', NEW.id USING ERRCODE = '23514',
            CONSTRAINT = 'agent_sessions_approval_check', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'An event pre_agent_spawn or consensus_check approves it.';
    END IF;
    RETURN NEW;
END
$$;
GRANT EXECUTE ON FUNCTION governance.check_approval TO PUBLIC;

CREATE OR REPLACE FUNCTION audit.session_actor() RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(COALESCE(NULLIF(current_setting('app.current_user_id', true), ''), NULLIF(current_setting('app.current_user', true), ''),
        session_user), 255)
$$;

DROP FUNCTION identity.erase_user;
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('audit.refuse_change'::regproc), $q$    IF TG_OP = 'UPDATE' AND audit.is_erasing() THEN
        IF to_jsonb(NEW) = to_jsonb(OLD) || '{"old_values": null, "new_values": null}' THEN
            RETURN NEW;
        END IF;
    END IF;
$q$, '');
    EXECUTE replace(pg_get_functiondef('audit.log_change'::regproc),
        $q$        CASE WHEN TG_OP <> 'DELETE' OR NOT audit.is_erasing() THEN before - hidden END, after - hidden, changed$q$,
        '        before - hidden, after - hidden, changed');
END
$$;
DROP FUNCTION audit.is_erasing;

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS '
        || regexp_replace(pg_get_viewdef('billing.token_usage_by_user'::regclass),
            ',\s+CASE\s+WHEN \(?c\.persona_id IS NULL\)? THEN c\.user_id\s+ELSE NULL::uuid\s+END\)', ', c.user_id)');
END
$$;

DROP TRIGGER refuse_promotion ON identity.api_keys;
DROP TRIGGER refuse_promotion_at_last ON identity.users;
DROP TRIGGER refuse_promotion_at_first ON identity.users;
DROP TRIGGER refuse_promotion ON identity.users;
DROP FUNCTION identity.refuse_promotion;
-- What may be written is again what is seen.
DO $$
DECLARE
    relation regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY['assistants.conversations', 'governance.agent_sessions']::regclass[] LOOP
        EXECUTE format('ALTER POLICY user_binds ON %s WITH CHECK (%s)', relation,
            (SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p WHERE p.polrelid = relation AND p.polname = 'user_binds'));
    END LOOP;
END
$$;
