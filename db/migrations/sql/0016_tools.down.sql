-- Back to no tools: what was called is forgotten.

ALTER TABLE assistants.run_steps DROP CONSTRAINT run_steps_tool_id_tenant_id_fkey;
DROP TABLE tools.mcp_tool_executions, tools.mcp_server_configs, tools.mcp_servers, tools.tool_executions, tools.persona_tools,
    tools.tool_dependencies, tools.tools;
DROP FUNCTION tools.check_mcp_server, tools.check_message;
DROP SCHEMA tools;
