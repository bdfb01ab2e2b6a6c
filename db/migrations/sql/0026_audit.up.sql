-- The data model: deeds (audit.audit_events) stand by months, nobody changes them, and triggers write those that are rows.

-- ---------------------------------------------------------------------------------------------------- who acts

-- Which of the product's users the session acts for, and what ties its deeds together. A text that is no UUID refuses no deed.
-- Nothing is set for their time, so that they cost nothing: each deed asks them.
CREATE FUNCTION audit.session_user_id() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_input_is_valid(current_setting('app.current_user_id', true), 'uuid')
        THEN current_setting('app.current_user_id', true)::uuid END
$$;
CREATE FUNCTION audit.session_trace_id() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_input_is_valid(current_setting('app.correlation_id', true), 'uuid')
        THEN current_setting('app.correlation_id', true)::uuid::text END
$$;

-- ---------------------------------------------------------------------------------------------------- deeds by months

-- What there is becomes one month's partition, with its indexes: it is not copied. That partition reaches back to the oldest row.
DO $$
DECLARE
    leaf CONSTANT text := 'audit_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM');
    named record;
BEGIN
    IF NOT EXISTS (SELECT FROM audit.audit_events) THEN
        DROP TABLE audit.audit_events;
        RETURN;
    END IF;
    ALTER TABLE audit.audit_events DROP CONSTRAINT audit_events_pkey;
    FOR named IN SELECT i.indexrelid::regclass::text AS index FROM pg_index i WHERE i.indrelid = 'audit.audit_events'::regclass LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', named.index, replace(named.index, 'audit.audit_events', leaf));
    END LOOP;
    -- From 18 on that a column is required has a name too. Checks keep theirs: by them they are the parent's.
    FOR named IN SELECT conname AS constraint FROM pg_constraint WHERE conrelid = 'audit.audit_events'::regclass AND contype = 'n' LOOP
        EXECUTE format('ALTER TABLE audit.audit_events RENAME CONSTRAINT %I TO %I', named.constraint,
            replace(named.constraint, 'audit_events', leaf));
    END LOOP;
    EXECUTE format('ALTER TABLE audit.audit_events RENAME TO %I', leaf);
END
$$;

CREATE TABLE audit.audit_events (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid,
    user_id uuid DEFAULT audit.session_user_id(),
    persona_id uuid,
    run_id uuid,
    trace_id text DEFAULT audit.session_trace_id(),
    event_type text NOT NULL,
    event_category text NOT NULL,
    description text NOT NULL,
    actor text DEFAULT session_user NOT NULL,
    resource_type text,
    resource_id text,
    old_values jsonb,
    new_values jsonb,
    status text DEFAULT 'success' NOT NULL,
    error_message text,
    ip_address inet,
    user_agent text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT audit_events_pkey PRIMARY KEY (id, created_at),
    CONSTRAINT audit_events_trace_id_check CHECK (length(trace_id) <= 255),
    CONSTRAINT audit_events_event_type_check CHECK (length(event_type) BETWEEN 1 AND 100),
    CONSTRAINT audit_events_event_category_check CHECK (event_category IN ('action', 'access', 'error', 'system')),
    CONSTRAINT audit_events_actor_check CHECK (length(actor) <= 255),
    CONSTRAINT audit_events_resource_type_check CHECK (length(resource_type) <= 100),
    CONSTRAINT audit_events_resource_id_check CHECK (length(resource_id) <= 255),
    CONSTRAINT audit_events_status_check CHECK (status IN ('success', 'failure'))
) PARTITION BY RANGE (created_at);
CREATE INDEX audit_events_created_at_idx ON audit.audit_events (created_at);
CREATE INDEX audit_events_event_type_idx ON audit.audit_events (event_type);
CREATE INDEX audit_events_persona_id_created_at_idx ON audit.audit_events (persona_id, created_at);
CREATE INDEX audit_events_resource_type_idx ON audit.audit_events (resource_type);
CREATE INDEX audit_events_run_id_idx ON audit.audit_events (run_id);
CREATE INDEX audit_events_tenant_id_created_at_idx ON audit.audit_events (tenant_id, created_at DESC);
CREATE INDEX audit_events_trace_id_idx ON audit.audit_events (trace_id);
CREATE INDEX audit_events_user_id_idx ON audit.audit_events (user_id);
COMMENT ON TABLE audit.audit_events IS 'A deed: who did what to which thing, and how it ended. Only ever added; parted by the month.';
COMMENT ON COLUMN audit.audit_events.tenant_id IS 'None: of the installation';
COMMENT ON COLUMN audit.audit_events.user_id IS 'Whom the session acts for (app.current_user_id), or who asked for the run or talks';
COMMENT ON COLUMN audit.audit_events.trace_id IS 'The run''s, or app.correlation_id where it is a UUID';
COMMENT ON COLUMN audit.audit_events.event_type IS 'tool_call, rag_retrieval, document.deleted …';
COMMENT ON COLUMN audit.audit_events.event_category IS 'error: a deed that failed; system: what came from outside';
COMMENT ON COLUMN audit.audit_events.actor IS 'The login';
COMMENT ON COLUMN audit.audit_events.error_message IS 'The kind of failure; its words stand on the row that the deed is of';
COMMENT ON COLUMN audit.audit_events.metadata IS 'Keys, names, counts and durations; never what was asked, said or sent';

ALTER TABLE audit.audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_passes ON audit.audit_events TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY roles_pass ON audit.audit_events TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system
    USING (true) WITH CHECK (true);
-- An operator's deed may concern any tenant, or none.
CREATE POLICY tenant_binds ON audit.audit_events AS RESTRICTIVE TO greenroom_worker, greenroom_reader
    USING (tenant_id = (SELECT identity.current_tenant_id())) WITH CHECK (tenant_id = (SELECT identity.current_tenant_id()));
GRANT SELECT ON audit.audit_events TO greenroom_reader;
GRANT SELECT, INSERT ON audit.audit_events TO greenroom_worker, greenroom_system, greenroom_operator;
REVOKE EXECUTE ON FUNCTION audit.session_user_id, audit.session_trace_id FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.session_user_id, audit.session_trace_id TO greenroom_worker, greenroom_system, greenroom_operator;

-- As before, for either of the two tables that are only ever added to.
CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation CONSTANT name := (SELECT relname FROM pg_class WHERE oid = COALESCE(pg_partition_root(TG_RELID), TG_RELID));
BEGIN
    RAISE EXCEPTION 'audit.% is only ever added to: no %', relation, TG_OP USING ERRCODE = 'check_violation',
        SCHEMA = 'audit', TABLE = relation, CONSTRAINT = relation || '_is_append_only',
        HINT = 'A month as a whole goes by detaching and dropping its partition.';
END
$$;
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit.audit_events FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- A partition is its parent's: nobody has a right to it, and nothing is said of it. Rows that claim to come from later months than
-- this one get those.
DO $$
DECLARE
    leaf CONSTANT text := 'audit_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM');
    this CONSTANT timestamptz := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next CONSTANT timestamptz := (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    since timestamptz;
    described smallint;
BEGIN
    IF to_regclass(format('audit.%I', leaf)) IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TEMPORARY TABLE from_later ON COMMIT DROP AS SELECT * FROM audit.%I WHERE created_at >= %L', leaf, next);
    EXECUTE format('DELETE FROM audit.%I WHERE created_at >= %L', leaf, next);
    EXECUTE format('SELECT date_trunc(''month'', min(created_at) AT TIME ZONE ''UTC'') AT TIME ZONE ''UTC'' FROM audit.%I', leaf) INTO since;
    EXECUTE format('ALTER TABLE audit.%I ADD CONSTRAINT %I PRIMARY KEY (id, created_at)', leaf, leaf || '_pkey');
    EXECUTE format('ALTER TABLE audit.%I ALTER user_id SET DEFAULT audit.session_user_id(), '
        'ALTER trace_id SET DEFAULT audit.session_trace_id()', leaf);
    EXECUTE format('DROP POLICY roles_pass ON audit.%I', leaf);
    EXECUTE format('DROP POLICY tenant_binds ON audit.%I', leaf);
    EXECUTE format('REVOKE ALL ON audit.%I FROM greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader', leaf);
    EXECUTE format('COMMENT ON TABLE audit.%I IS NULL', leaf);
    EXECUTE format('COMMENT ON COLUMN audit.%I.event_type IS NULL', leaf);
    EXECUTE format('COMMENT ON COLUMN audit.%I.actor IS NULL', leaf);
    EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit.%I FOR EACH STATEMENT '
        'EXECUTE FUNCTION audit.refuse_change()', leaf);
    EXECUTE format('ALTER TABLE audit.audit_events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', leaf,
        LEAST(since, this), next);
    PERFORM ops.create_month('audit.audit_events', l.month)
    FROM (SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS month FROM from_later) l;
    INSERT INTO audit.audit_events SELECT * FROM from_later;
    DROP TABLE from_later;
END
$$;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON audit.audit_events FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
SELECT ops.create_months();

-- ---------------------------------------------------------------------------------------------------- deeds that are rows

-- A tool's call that has ended (000, 004).
CREATE FUNCTION audit.note_tool_call() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.audit_events (tenant_id, user_id, persona_id, run_id, trace_id, event_type, event_category, description,
        resource_type, resource_id, status, error_message, metadata)
    SELECT NEW.tenant_id, COALESCE(audit.session_user_id(), r.user_id, c.user_id), COALESCE(r.persona_id, a.persona_id), NEW.run_id,
        COALESCE(NEW.trace_id, audit.session_trace_id()), 'tool_call', CASE NEW.status WHEN 'success' THEN 'action' ELSE 'error' END,
        format('tool %s called', COALESCE(NEW.tool_name, t.name)), 'tool_execution', NEW.id::text,
        CASE NEW.status WHEN 'success' THEN 'success' ELSE 'failure' END, NULLIF(NEW.status, 'success'),
        jsonb_strip_nulls(jsonb_build_object('tool_name', COALESCE(NEW.tool_name, t.name), 'tool_id', NEW.tool_id,
            'agent_id', COALESCE(NEW.agent_id, r.agent_id), 'conversation_id', NEW.conversation_id, 'duration_ms', NEW.duration_ms))
    FROM (VALUES (NEW.run_id, NEW.agent_id, NEW.conversation_id, NEW.tool_id)) AS n (run_id, agent_id, conversation_id, tool_id)
    LEFT JOIN assistants.runs r ON r.id = n.run_id
    LEFT JOIN assistants.agents a ON a.id = n.agent_id
    LEFT JOIN assistants.conversations c ON c.id = n.conversation_id
    LEFT JOIN tools.tools t ON t.id = n.tool_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_call AFTER INSERT ON tools.tool_executions FOR EACH ROW WHEN (NEW.status IS NOT NULL)
    EXECUTE FUNCTION audit.note_tool_call();
CREATE TRIGGER note_call_ended AFTER UPDATE OF status ON tools.tool_executions FOR EACH ROW
    WHEN (NEW.status IS DISTINCT FROM OLD.status AND NEW.status IS NOT NULL) EXECUTE FUNCTION audit.note_tool_call();

CREATE FUNCTION audit.note_mcp_call() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.audit_events (tenant_id, user_id, persona_id, event_type, event_category, description, resource_type, resource_id,
        status, error_message, metadata)
    SELECT NEW.tenant_id, COALESCE(audit.session_user_id(), c.user_id), a.persona_id, 'tool_call',
        CASE NEW.status WHEN 'success' THEN 'action' ELSE 'error' END, format('tool %s of an MCP server called', NEW.tool_name),
        'mcp_tool_execution', NEW.id::text, CASE NEW.status WHEN 'success' THEN 'success' ELSE 'failure' END,
        CASE WHEN NEW.status <> 'success' THEN concat_ws(': ', NEW.status, NEW.error_code) END,
        jsonb_strip_nulls(jsonb_build_object('tool_name', NEW.tool_name, 'mcp_server_id', NEW.mcp_server_id, 'agent_id', NEW.agent_id,
            'conversation_id', NEW.conversation_id, 'duration_ms', NEW.duration_ms))
    FROM (VALUES (NEW.agent_id, NEW.conversation_id)) AS n (agent_id, conversation_id)
    LEFT JOIN assistants.agents a ON a.id = n.agent_id
    LEFT JOIN assistants.conversations c ON c.id = n.conversation_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_call AFTER INSERT ON tools.mcp_tool_executions FOR EACH ROW WHEN (NEW.status IS NOT NULL)
    EXECUTE FUNCTION audit.note_mcp_call();
CREATE TRIGGER note_call_ended AFTER UPDATE OF status ON tools.mcp_tool_executions FOR EACH ROW
    WHEN (NEW.status IS DISTINCT FROM OLD.status AND NEW.status IS NOT NULL) EXECUTE FUNCTION audit.note_mcp_call();

-- A search, of a persona's documents if it was confined to them (000, 004).
CREATE FUNCTION audit.note_retrieval() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.audit_events (tenant_id, persona_id, event_type, event_category, description, resource_type, resource_id, metadata)
    VALUES (NEW.tenant_id,
        CASE WHEN pg_input_is_valid(NEW.filters ->> 'persona_id', 'uuid') THEN (NEW.filters ->> 'persona_id')::uuid END,
        'rag_retrieval', 'access', 'documents searched', 'rag_query', NEW.id::text,
        jsonb_strip_nulls(jsonb_build_object('collection_id', NEW.collection_id, 'strategy', NEW.strategy,
            'results', cardinality(NEW.result_chunk_ids), 'top_score', NEW.top_score, 'response_ms', NEW.response_ms)));
    RETURN NULL;
END
$$;
CREATE TRIGGER note_retrieval AFTER INSERT ON knowledge.rag_queries FOR EACH ROW EXECUTE FUNCTION audit.note_retrieval();

-- Mail that came, was sent, or could not be (000).
CREATE FUNCTION audit.note_email() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO audit.audit_events (tenant_id, user_id, persona_id, run_id, trace_id, event_type, event_category, description,
        resource_type, resource_id, status, error_message, metadata)
    SELECT NEW.tenant_id, COALESCE(audit.session_user_id(), r.user_id), NEW.persona_id, NEW.run_id,
        COALESCE(r.trace_id, audit.session_trace_id()), CASE NEW.status WHEN 'received' THEN 'email_received' ELSE 'email_sent' END,
        CASE NEW.status WHEN 'received' THEN 'system' WHEN 'sent' THEN 'action' ELSE 'error' END,
        CASE NEW.status WHEN 'received' THEN 'mail received' WHEN 'sent' THEN 'mail sent' ELSE 'mail not sent' END,
        'email', NEW.id::text, CASE NEW.status WHEN 'failed' THEN 'failure' ELSE 'success' END,
        CASE NEW.status WHEN 'failed' THEN concat_ws(': ', NEW.status, NEW.error_code) END,
        jsonb_strip_nulls(jsonb_build_object('mailbox_id', NEW.mailbox_id, 'recipients', NULLIF(cardinality(NEW.to_emails), 0),
            'size_bytes', NEW.size_bytes, 'attempts', NULLIF(NEW.attempt_count, 0)))
    FROM (VALUES (NEW.run_id)) AS n (run_id) LEFT JOIN assistants.runs r ON r.id = n.run_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_email AFTER INSERT ON mail.emails FOR EACH ROW WHEN (NEW.status IN ('received', 'sent', 'failed'))
    EXECUTE FUNCTION audit.note_email();
CREATE TRIGGER note_email_ended AFTER UPDATE OF status ON mail.emails FOR EACH ROW
    WHEN (NEW.status IS DISTINCT FROM OLD.status AND NEW.status IN ('sent', 'failed')) EXECUTE FUNCTION audit.note_email();

-- An agent that was made, changed or deleted, in either of two steps (004: agent.created). Prompts and settings are named, not copied.
CREATE FUNCTION audit.note_agent() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hidden CONSTANT text[] := ARRAY['description', 'system_prompt', 'system_prompt_override', 'config', 'metadata'];
    is_deleted CONSTANT boolean := TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL;
    deed CONSTANT text := CASE WHEN TG_OP = 'INSERT' THEN 'created' WHEN is_deleted THEN 'deleted' ELSE 'updated' END;
    agent assistants.agents := COALESCE(NEW, OLD);
    changed text[];
    before jsonb;
    after jsonb;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT array_agg(n.key ORDER BY n.key), jsonb_object_agg(n.key, o.value), jsonb_object_agg(n.key, n.value)
        INTO changed, before, after
        FROM jsonb_each(to_jsonb(NEW)) n JOIN jsonb_each(to_jsonb(OLD)) o USING (key)
        WHERE n.value IS DISTINCT FROM o.value AND n.key <> 'updated_at';
        IF changed IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO audit.audit_events (tenant_id, persona_id, event_type, event_category, description, resource_type, resource_id,
        old_values, new_values, metadata)
    VALUES (agent.tenant_id, agent.persona_id, 'agent.' || deed, 'action', format('agent %s %s', agent.name, deed), 'agent', agent.id::text,
        before - hidden, after - hidden, jsonb_strip_nulls(jsonb_build_object('changed', changed)));
    RETURN NULL;
END
$$;
CREATE TRIGGER note_agent AFTER INSERT OR UPDATE OR DELETE ON assistants.agents FOR EACH ROW EXECUTE FUNCTION audit.note_agent();
REVOKE EXECUTE ON FUNCTION audit.note_tool_call, audit.note_mcp_call, audit.note_retrieval, audit.note_email, audit.note_agent FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------------- changes of rows, retention

-- That something was used is no change of it.
DO $$
DECLARE
    logged CONSTANT text := pg_get_functiondef('audit.log_change'::regproc);
    noticing CONSTANT text := replace(logged, $q$('updated_at', 'version')$q$,
        $q$('updated_at', 'version', 'last_used_at', 'last_active_at')$q$);
BEGIN
    ASSERT noticing <> logged, 'audit.log_change is another';
    EXECUTE noticing;
END
$$;

-- Kept as long as an operator wants (000).
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, is_enabled, source, description)
VALUES ('audit-events', 'audit', 'audit_events', 'created_at', '7 years', '{}', 'drop_partition', false, '000', 'Deeds, by whole months')
ON CONFLICT DO NOTHING;
