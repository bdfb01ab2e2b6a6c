-- The data model: what personas can do. Tools, who may use them, MCP servers, and the logs of what was called, parted by months.
-- A tool's description is embedded into a space, not beside the row.

CREATE SCHEMA tools;

-- A server is the installation's, or a tenant's own: a key alone cannot say whether a row's tenant may point to it. Fails as that
-- key would, of the table that the trigger names (a partition's trigger knows the partition only).
CREATE FUNCTION tools.check_mcp_server() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM tools.mcp_servers s WHERE s.id = NEW.mcp_server_id AND (s.is_public OR s.tenant_id = NEW.tenant_id)
    ) THEN
        RAISE EXCEPTION 'there is no MCP server % that tenant % may use', NEW.mcp_server_id, NEW.tenant_id
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'tools', TABLE = TG_ARGV[0], CONSTRAINT = TG_ARGV[0] || '_mcp_server_id_fkey';
    END IF;
    RETURN NEW;
END
$$;

-- A message's key is its id and its month's column, without the tenant: a row that points to another tenant's fails as that key would.
CREATE FUNCTION tools.check_message() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM assistants.messages m
        WHERE m.id = NEW.message_id AND m.created_at = NEW.message_created_at AND m.tenant_id = NEW.tenant_id
    ) THEN
        RAISE EXCEPTION 'tenant % has no message % of %', NEW.tenant_id, NEW.message_id, NEW.message_created_at
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'tools', TABLE = TG_ARGV[0],
                CONSTRAINT = TG_ARGV[0] || '_message_id_message_created_at_fkey';
    END IF;
    RETURN NEW;
END
$$;

CREATE TABLE tools.tools (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    category text,
    schema jsonb NOT NULL,
    code text,
    code_type text,
    is_builtin boolean DEFAULT false NOT NULL,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tools_pkey PRIMARY KEY (id),
    CONSTRAINT tools_tenant_id_name_key UNIQUE (tenant_id, name),
    CONSTRAINT tools_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT tools_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT tools_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT tools_category_check CHECK (length(category) <= 100),
    CONSTRAINT tools_code_type_check CHECK (code_type IN ('python', 'javascript', 'builtin')),
    CONSTRAINT tools_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX tools_category_idx ON tools.tools (tenant_id, category);
CREATE INDEX tools_created_by_idx ON tools.tools (created_by);
CREATE INDEX tools_description_idx ON tools.tools USING gin (to_tsvector('english'::regconfig, description));
COMMENT ON TABLE tools.tools IS 'A function that a persona''s model may call. The embedding of its description stands in a space.';
COMMENT ON COLUMN tools.tools.description IS 'What it does, for whoever looks for a tool';
COMMENT ON COLUMN tools.tools.schema IS 'Schema of the function call: name, description, parameters';
COMMENT ON COLUMN tools.tools.code IS 'Implementation of a tool that a user made';
CREATE TRIGGER touch BEFORE UPDATE ON tools.tools FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE tools.tool_dependencies (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    tool_id uuid NOT NULL,
    depends_on_tool_id uuid NOT NULL,
    dependency_type text DEFAULT 'requires' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tool_dependencies_pkey PRIMARY KEY (id),
    CONSTRAINT tool_dependencies_tool_id_depends_on_tool_id_key UNIQUE (tool_id, depends_on_tool_id),
    CONSTRAINT tool_dependencies_itself_check CHECK (tool_id <> depends_on_tool_id),
    CONSTRAINT tool_dependencies_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT tool_dependencies_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT tool_dependencies_tool_id_tenant_id_fkey FOREIGN KEY (tool_id, tenant_id) REFERENCES tools.tools (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_dependencies_depends_on_tool_id_tenant_id_fkey FOREIGN KEY (depends_on_tool_id, tenant_id) REFERENCES tools.tools (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_dependencies_dependency_type_check CHECK (dependency_type IN ('requires', 'recommends', 'optional'))
);
CREATE INDEX tool_dependencies_depends_on_tool_id_idx ON tools.tool_dependencies (depends_on_tool_id);
CREATE INDEX tool_dependencies_tenant_id_idx ON tools.tool_dependencies (tenant_id);
CREATE INDEX tool_dependencies_tool_id_idx ON tools.tool_dependencies (tool_id);
COMMENT ON TABLE tools.tool_dependencies IS 'One tool that another needs, recommends or can use.';

CREATE TABLE tools.persona_tools (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    tool_id uuid NOT NULL,
    is_enabled boolean DEFAULT true NOT NULL,
    config jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_tools_pkey PRIMARY KEY (id),
    CONSTRAINT persona_tools_persona_id_tool_id_key UNIQUE (persona_id, tool_id),
    CONSTRAINT persona_tools_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_tools_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_tools_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_tools_tool_id_tenant_id_fkey FOREIGN KEY (tool_id, tenant_id) REFERENCES tools.tools (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX persona_tools_persona_id_idx ON tools.persona_tools (persona_id);
CREATE INDEX persona_tools_tenant_id_idx ON tools.persona_tools (tenant_id);
CREATE INDEX persona_tools_tool_id_idx ON tools.persona_tools (tool_id);
COMMENT ON TABLE tools.persona_tools IS 'A tool that a persona may use.';
COMMENT ON COLUMN tools.persona_tools.config IS 'Limits and settings; a key stands here as a reference to the vault';
CREATE TRIGGER touch BEFORE UPDATE ON tools.persona_tools FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE tools.tool_executions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    tool_id uuid,
    run_id uuid,
    run_step_id uuid,
    conversation_id uuid,
    message_id uuid,
    message_created_at timestamptz,
    agent_id uuid,
    trace_id text,
    tool_name text,
    input jsonb NOT NULL,
    output jsonb,
    status text,
    error_message text,
    duration_ms integer,
    metadata jsonb DEFAULT '{}' NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tool_executions_pkey PRIMARY KEY (id, started_at),
    CONSTRAINT tool_executions_message_id_message_created_at_fkey FOREIGN KEY (message_id, message_created_at) REFERENCES assistants.messages (id, created_at) ON DELETE SET NULL (message_id, message_created_at),
    CONSTRAINT tool_executions_run_check CHECK (run_id IS NULL OR tool_id IS NOT NULL AND trace_id IS NOT NULL),
    CONSTRAINT tool_executions_tool_check CHECK (tool_id IS NOT NULL OR tool_name IS NOT NULL),
    CONSTRAINT tool_executions_message_check CHECK (num_nulls(message_id, message_created_at) <> 1),
    CONSTRAINT tool_executions_error_check CHECK (error_message IS NULL OR status IS NULL OR status <> 'success'),
    CONSTRAINT tool_executions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT tool_executions_tool_id_tenant_id_fkey FOREIGN KEY (tool_id, tenant_id) REFERENCES tools.tools (id, tenant_id) ON DELETE RESTRICT,
    CONSTRAINT tool_executions_run_id_tenant_id_fkey FOREIGN KEY (run_id, tenant_id) REFERENCES assistants.runs (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_executions_run_step_id_tenant_id_fkey FOREIGN KEY (run_step_id, tenant_id) REFERENCES assistants.run_steps (id, tenant_id) ON DELETE SET NULL (run_step_id),
    CONSTRAINT tool_executions_conversation_id_tenant_id_fkey FOREIGN KEY (conversation_id, tenant_id) REFERENCES assistants.conversations (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_executions_agent_id_tenant_id_fkey FOREIGN KEY (agent_id, tenant_id) REFERENCES assistants.agents (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT tool_executions_trace_id_check CHECK (length(trace_id) <= 255),
    CONSTRAINT tool_executions_tool_name_check CHECK (length(tool_name) BETWEEN 1 AND 255),
    CONSTRAINT tool_executions_status_check CHECK (status IN ('success', 'error', 'timeout')),
    CONSTRAINT tool_executions_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT tool_executions_completed_at_check CHECK (completed_at >= started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX tool_executions_agent_id_idx ON tools.tool_executions (agent_id);
CREATE INDEX tool_executions_conversation_id_idx ON tools.tool_executions (conversation_id);
CREATE INDEX tool_executions_created_at_idx ON tools.tool_executions (tenant_id, created_at);
CREATE INDEX tool_executions_message_id_idx ON tools.tool_executions (message_id);
CREATE INDEX tool_executions_run_id_idx ON tools.tool_executions (run_id);
CREATE INDEX tool_executions_run_step_id_idx ON tools.tool_executions (run_step_id);
CREATE INDEX tool_executions_started_at_idx ON tools.tool_executions (tenant_id, started_at DESC);
CREATE INDEX tool_executions_status_idx ON tools.tool_executions (tenant_id, status);
CREATE INDEX tool_executions_tool_id_idx ON tools.tool_executions (tool_id);
CREATE INDEX tool_executions_tool_name_idx ON tools.tool_executions (tenant_id, tool_name);
CREATE INDEX tool_executions_trace_id_idx ON tools.tool_executions (tenant_id, trace_id);
COMMENT ON TABLE tools.tool_executions IS 'One call of a tool, within a run (000) or a conversation (004). Parted by the month of its start.';
COMMENT ON COLUMN tools.tool_executions.message_created_at IS 'The message''s partition';
COMMENT ON COLUMN tools.tool_executions.trace_id IS 'The run''s';
COMMENT ON COLUMN tools.tool_executions.tool_name IS 'As it was called; may be of no registered tool';
COMMENT ON COLUMN tools.tool_executions.status IS 'None while it runs';
COMMENT ON COLUMN tools.tool_executions.duration_ms IS 'Milliseconds';

CREATE TABLE tools.mcp_servers (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid,
    name text NOT NULL,
    slug text NOT NULL,
    description text,
    version text,
    category text,
    server_type text NOT NULL,
    command text,
    config_schema jsonb DEFAULT '{}' NOT NULL,
    tool_definitions jsonb DEFAULT '[]' NOT NULL,
    resource_definitions jsonb DEFAULT '[]' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    is_public boolean DEFAULT false NOT NULL,
    documentation_url text,
    repository_url text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT mcp_servers_pkey PRIMARY KEY (id),
    CONSTRAINT mcp_servers_owner_check CHECK (tenant_id IS NOT NULL OR is_public),
    CONSTRAINT mcp_servers_command_check CHECK (server_type <> 'stdio' OR command IS NOT NULL),
    CONSTRAINT mcp_servers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mcp_servers_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT mcp_servers_slug_check CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) <= 100),
    CONSTRAINT mcp_servers_version_check CHECK (length(version) <= 50),
    CONSTRAINT mcp_servers_category_check CHECK (length(category) <= 100),
    CONSTRAINT mcp_servers_server_type_check CHECK (server_type IN ('stdio', 'sse')),
    CONSTRAINT mcp_servers_tool_definitions_check CHECK (jsonb_typeof(tool_definitions) = 'array'),
    CONSTRAINT mcp_servers_resource_definitions_check CHECK (jsonb_typeof(resource_definitions) = 'array'),
    CONSTRAINT mcp_servers_status_check CHECK (status IN ('active', 'deprecated', 'disabled')),
    CONSTRAINT mcp_servers_documentation_url_check CHECK (length(documentation_url) <= 2000),
    CONSTRAINT mcp_servers_repository_url_check CHECK (length(repository_url) <= 2000)
);
CREATE INDEX mcp_servers_category_idx ON tools.mcp_servers (category);
CREATE INDEX mcp_servers_slug_idx ON tools.mcp_servers (slug);
CREATE UNIQUE INDEX mcp_servers_slug_key ON tools.mcp_servers (tenant_id, slug) NULLS NOT DISTINCT WHERE deleted_at IS NULL;
CREATE INDEX mcp_servers_status_idx ON tools.mcp_servers (status);
COMMENT ON TABLE tools.mcp_servers IS 'An MCP server: of the installation where it has no tenant, else of that tenant. A public one is seen by all.';
COMMENT ON COLUMN tools.mcp_servers.tenant_id IS 'None: the installation''s own';
COMMENT ON COLUMN tools.mcp_servers.version IS 'The server''s own';
COMMENT ON COLUMN tools.mcp_servers.category IS 'system, integration, data, ...';
COMMENT ON COLUMN tools.mcp_servers.command IS 'What starts the server';
COMMENT ON COLUMN tools.mcp_servers.config_schema IS 'What a tenant''s configuration must look like';
COMMENT ON COLUMN tools.mcp_servers.is_public IS 'Available to all tenants';
CREATE TRIGGER touch BEFORE UPDATE ON tools.mcp_servers FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE tools.mcp_server_configs (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    mcp_server_id uuid NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    config jsonb DEFAULT '{}' NOT NULL,
    environment jsonb DEFAULT '{}' NOT NULL,
    resource_limits jsonb DEFAULT '{}' NOT NULL,
    allowed_users jsonb DEFAULT '"all"' NOT NULL,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT mcp_server_configs_pkey PRIMARY KEY (id),
    CONSTRAINT mcp_server_configs_tenant_id_mcp_server_id_key UNIQUE (tenant_id, mcp_server_id),
    CONSTRAINT mcp_server_configs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mcp_server_configs_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT mcp_server_configs_mcp_server_id_fkey FOREIGN KEY (mcp_server_id) REFERENCES tools.mcp_servers (id) ON DELETE CASCADE,
    CONSTRAINT mcp_server_configs_allowed_users_check CHECK (allowed_users = '"all"' OR jsonb_typeof(allowed_users) = 'array'),
    CONSTRAINT mcp_server_configs_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX mcp_server_configs_created_by_idx ON tools.mcp_server_configs (created_by);
CREATE INDEX mcp_server_configs_enabled_idx ON tools.mcp_server_configs (tenant_id, enabled);
CREATE INDEX mcp_server_configs_mcp_server_id_idx ON tools.mcp_server_configs (mcp_server_id);
COMMENT ON TABLE tools.mcp_server_configs IS 'How a tenant uses an MCP server: a public one, or one of its own.';
COMMENT ON COLUMN tools.mcp_server_configs.config IS 'A key stands here as a reference to the vault';
COMMENT ON COLUMN tools.mcp_server_configs.environment IS 'Environment variables; a key stands here as a reference to the vault';
COMMENT ON COLUMN tools.mcp_server_configs.resource_limits IS 'Time, memory, ...';
COMMENT ON COLUMN tools.mcp_server_configs.allowed_users IS 'Keys of users, or "all"';
CREATE TRIGGER touch BEFORE UPDATE ON tools.mcp_server_configs FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE tools.mcp_tool_executions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    mcp_server_id uuid,
    agent_id uuid,
    conversation_id uuid,
    message_id uuid,
    message_created_at timestamptz,
    tool_name text NOT NULL,
    parameters jsonb DEFAULT '{}' NOT NULL,
    result jsonb,
    status text,
    error_message text,
    error_code text,
    duration_ms integer,
    server_instance_id text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    CONSTRAINT mcp_tool_executions_pkey PRIMARY KEY (id, started_at),
    CONSTRAINT mcp_tool_executions_message_id_message_created_at_fkey FOREIGN KEY (message_id, message_created_at) REFERENCES assistants.messages (id, created_at) ON DELETE SET NULL (message_id, message_created_at),
    CONSTRAINT mcp_tool_executions_message_check CHECK (num_nulls(message_id, message_created_at) <> 1),
    CONSTRAINT mcp_tool_executions_error_check CHECK (error_message IS NULL OR status IS NULL OR status <> 'success'),
    CONSTRAINT mcp_tool_executions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mcp_tool_executions_mcp_server_id_fkey FOREIGN KEY (mcp_server_id) REFERENCES tools.mcp_servers (id) ON DELETE SET NULL,
    CONSTRAINT mcp_tool_executions_agent_id_tenant_id_fkey FOREIGN KEY (agent_id, tenant_id) REFERENCES assistants.agents (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT mcp_tool_executions_conversation_id_tenant_id_fkey FOREIGN KEY (conversation_id, tenant_id) REFERENCES assistants.conversations (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT mcp_tool_executions_tool_name_check CHECK (length(tool_name) BETWEEN 1 AND 255),
    CONSTRAINT mcp_tool_executions_status_check CHECK (status IN ('success', 'error', 'timeout')),
    CONSTRAINT mcp_tool_executions_error_code_check CHECK (length(error_code) <= 100),
    CONSTRAINT mcp_tool_executions_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT mcp_tool_executions_server_instance_id_check CHECK (length(server_instance_id) <= 255),
    CONSTRAINT mcp_tool_executions_completed_at_check CHECK (completed_at >= started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX mcp_tool_executions_agent_id_idx ON tools.mcp_tool_executions (agent_id);
CREATE INDEX mcp_tool_executions_conversation_id_idx ON tools.mcp_tool_executions (conversation_id);
CREATE INDEX mcp_tool_executions_mcp_server_id_idx ON tools.mcp_tool_executions (mcp_server_id);
CREATE INDEX mcp_tool_executions_message_id_idx ON tools.mcp_tool_executions (message_id);
CREATE INDEX mcp_tool_executions_started_at_idx ON tools.mcp_tool_executions (tenant_id, started_at DESC);
CREATE INDEX mcp_tool_executions_status_idx ON tools.mcp_tool_executions (tenant_id, status);
CREATE INDEX mcp_tool_executions_tool_name_idx ON tools.mcp_tool_executions (tenant_id, tool_name);
COMMENT ON TABLE tools.mcp_tool_executions IS 'One call of an MCP server''s tool. Parted by the month of its start.';
COMMENT ON COLUMN tools.mcp_tool_executions.mcp_server_id IS 'None: the server is gone';
COMMENT ON COLUMN tools.mcp_tool_executions.message_created_at IS 'The message''s partition';
COMMENT ON COLUMN tools.mcp_tool_executions.status IS 'None while it runs';
COMMENT ON COLUMN tools.mcp_tool_executions.duration_ms IS 'Milliseconds';

CREATE TRIGGER check_mcp_server BEFORE INSERT OR UPDATE OF mcp_server_id, tenant_id ON tools.mcp_server_configs
    FOR EACH ROW EXECUTE FUNCTION tools.check_mcp_server('mcp_server_configs');
CREATE TRIGGER check_mcp_server BEFORE INSERT OR UPDATE OF mcp_server_id, tenant_id ON tools.mcp_tool_executions
    FOR EACH ROW WHEN (NEW.mcp_server_id IS NOT NULL) EXECUTE FUNCTION tools.check_mcp_server('mcp_tool_executions');
CREATE TRIGGER check_message BEFORE INSERT OR UPDATE OF message_id, message_created_at, tenant_id ON tools.tool_executions
    FOR EACH ROW WHEN (num_nulls(NEW.message_id, NEW.message_created_at) = 0) EXECUTE FUNCTION tools.check_message('tool_executions');
CREATE TRIGGER check_message BEFORE INSERT OR UPDATE OF message_id, message_created_at, tenant_id ON tools.mcp_tool_executions
    FOR EACH ROW WHEN (num_nulls(NEW.message_id, NEW.message_created_at) = 0) EXECUTE FUNCTION tools.check_message('mcp_tool_executions');

-- A step outlives the tool that it called.
ALTER TABLE assistants.run_steps ADD CONSTRAINT run_steps_tool_id_tenant_id_fkey
    FOREIGN KEY (tool_id, tenant_id) REFERENCES tools.tools (id, tenant_id) ON DELETE SET NULL (tool_id);

-- ---------------------------------------------------------------------------------------------------- row security and grants

GRANT USAGE ON SCHEMA tools TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('tools.tools', 'tools.tool_dependencies', 'tools.persona_tools', 'tools.tool_executions',
    'tools.mcp_server_configs', 'tools.mcp_tool_executions');

-- MCP servers: everybody sees the public ones and his tenant's. A tenant writes its own and cannot publish them; the system role
-- does, and an operator. The installation's own (no tenant) are written by system, and by an operator bound to no tenant.
ALTER TABLE tools.mcp_servers ENABLE ROW LEVEL SECURITY;
ALTER TABLE tools.mcp_servers FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_passes ON tools.mcp_servers TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY roles_pass ON tools.mcp_servers TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system
    USING (true) WITH CHECK (true);
CREATE POLICY tenant_sees ON tools.mcp_servers AS RESTRICTIVE FOR SELECT TO greenroom_worker, greenroom_operator, greenroom_reader
    USING (is_public OR tenant_id IS NOT DISTINCT FROM (SELECT identity.current_tenant_id()));
CREATE POLICY worker_inserts ON tools.mcp_servers AS RESTRICTIVE FOR INSERT TO greenroom_worker
    WITH CHECK (tenant_id = (SELECT identity.current_tenant_id()) AND NOT is_public);
CREATE POLICY worker_updates ON tools.mcp_servers AS RESTRICTIVE FOR UPDATE TO greenroom_worker
    USING (tenant_id = (SELECT identity.current_tenant_id()))
    WITH CHECK (tenant_id = (SELECT identity.current_tenant_id()) AND NOT is_public);
CREATE POLICY worker_deletes ON tools.mcp_servers AS RESTRICTIVE FOR DELETE TO greenroom_worker
    USING (tenant_id = (SELECT identity.current_tenant_id()));
CREATE POLICY operator_inserts ON tools.mcp_servers AS RESTRICTIVE FOR INSERT TO greenroom_operator
    WITH CHECK (tenant_id IS NOT DISTINCT FROM (SELECT identity.current_tenant_id()));
CREATE POLICY operator_updates ON tools.mcp_servers AS RESTRICTIVE FOR UPDATE TO greenroom_operator
    USING (tenant_id IS NOT DISTINCT FROM (SELECT identity.current_tenant_id()))
    WITH CHECK (tenant_id IS NOT DISTINCT FROM (SELECT identity.current_tenant_id()));
CREATE POLICY operator_deletes ON tools.mcp_servers AS RESTRICTIVE FOR DELETE TO greenroom_operator
    USING (tenant_id IS NOT DISTINCT FROM (SELECT identity.current_tenant_id()));
GRANT SELECT, INSERT, UPDATE, DELETE ON tools.mcp_servers TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT ON tools.mcp_servers TO greenroom_reader;

SELECT ops.create_months();
