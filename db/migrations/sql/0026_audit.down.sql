-- Deeds stand in one table again, whatever month they are of, and triggers write none. Rows are copied: nothing tells a partition from
-- a table that was one before.

DELETE FROM ops.retention_policies WHERE name = 'audit-events' AND source = '000';

DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('audit.log_change'::regproc),
        $q$('updated_at', 'version', 'last_used_at', 'last_active_at')$q$, $q$('updated_at', 'version')$q$);
END
$$;

DROP TRIGGER note_agent ON assistants.agents;
DROP TRIGGER note_email_ended ON mail.emails;
DROP TRIGGER note_email ON mail.emails;
DROP TRIGGER note_retrieval ON knowledge.rag_queries;
DROP TRIGGER note_call_ended ON tools.mcp_tool_executions;
DROP TRIGGER note_call ON tools.mcp_tool_executions;
DROP TRIGGER note_call_ended ON tools.tool_executions;
DROP TRIGGER note_call ON tools.tool_executions;
DROP FUNCTION audit.note_tool_call, audit.note_mcp_call, audit.note_retrieval, audit.note_email, audit.note_agent;

-- Beside each other the two would take each other's names.
CREATE TEMPORARY TABLE deeds ON COMMIT DROP AS SELECT * FROM audit.audit_events;
DROP TABLE audit.audit_events;
CREATE TABLE audit.audit_events (
    id uuid DEFAULT ops.uuid_v7(),
    tenant_id uuid,
    user_id uuid,
    persona_id uuid,
    run_id uuid,
    trace_id text CHECK (length(trace_id) <= 255),
    event_type text NOT NULL CHECK (length(event_type) BETWEEN 1 AND 100),
    event_category text NOT NULL CHECK (event_category IN ('action', 'access', 'error', 'system')),
    description text NOT NULL,
    actor text NOT NULL DEFAULT session_user CHECK (length(actor) <= 255),
    resource_type text CHECK (length(resource_type) <= 100),
    resource_id text CHECK (length(resource_id) <= 255),
    old_values jsonb,
    new_values jsonb,
    status text NOT NULL DEFAULT 'success' CHECK (status IN ('success', 'failure')),
    error_message text,
    ip_address inet,
    user_agent text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO audit.audit_events SELECT * FROM deeds;
DROP TABLE deeds;
ALTER TABLE audit.audit_events ADD PRIMARY KEY (id);
CREATE INDEX audit_events_tenant_id_created_at_idx ON audit.audit_events (tenant_id, created_at DESC);
CREATE INDEX audit_events_user_id_idx ON audit.audit_events (user_id);
CREATE INDEX audit_events_persona_id_created_at_idx ON audit.audit_events (persona_id, created_at);
CREATE INDEX audit_events_run_id_idx ON audit.audit_events (run_id);
CREATE INDEX audit_events_trace_id_idx ON audit.audit_events (trace_id);
CREATE INDEX audit_events_event_type_idx ON audit.audit_events (event_type);
CREATE INDEX audit_events_resource_type_idx ON audit.audit_events (resource_type);
CREATE INDEX audit_events_created_at_idx ON audit.audit_events (created_at);
COMMENT ON TABLE audit.audit_events IS 'A deed: who did what to which thing, and how it ended. Only ever added.';
COMMENT ON COLUMN audit.audit_events.event_type IS 'tool_call, rag_retrieval, document.deleted …';
COMMENT ON COLUMN audit.audit_events.actor IS 'The login';

ALTER TABLE audit.audit_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.audit_events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_passes ON audit.audit_events TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY roles_pass ON audit.audit_events TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system
    USING (true) WITH CHECK (true);
CREATE POLICY tenant_binds ON audit.audit_events AS RESTRICTIVE TO greenroom_worker, greenroom_reader
    USING (tenant_id = (SELECT identity.current_tenant_id())) WITH CHECK (tenant_id = (SELECT identity.current_tenant_id()));
GRANT SELECT ON audit.audit_events TO greenroom_reader;
GRANT SELECT, INSERT ON audit.audit_events TO greenroom_worker, greenroom_system, greenroom_operator;
DROP FUNCTION audit.session_user_id, audit.session_trace_id;

CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'audit.audit_log is only ever added to: no %', TG_OP USING ERRCODE = 'check_violation',
        SCHEMA = 'audit', TABLE = 'audit_log', CONSTRAINT = 'audit_log_is_append_only',
        HINT = 'A month as a whole goes by detaching and dropping its partition.';
END
$$;
