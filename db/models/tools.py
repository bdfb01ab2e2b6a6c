"""What personas can do: tools, who may use them, MCP servers, and the log of what was called (000, 004)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    SLUG,
    Base,
    Created,
    InSpace,
    Json,
    JsonList,
    Keyed,
    SoftDeleted,
    Tenanted,
    Touched,
    column,
    one_of,
    reference,
    words,
)

# Of both logs of executions.
_MESSAGE = "num_nulls(message_id, message_created_at) <> 1"
_ERROR = "error_message IS NULL OR status IS NULL OR status <> 'success'"
_STATUS = "None while it runs"


def _message() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["message_id", "message_created_at"],
        ["assistants.messages.id", "assistants.messages.created_at"],
        ondelete="SET NULL (message_id, message_created_at)",
    )


class Tool(Keyed, Tenanted, Touched, Base):
    """A function that a persona's model may call. The embedding of its description stands in a space."""

    __tablename__ = "tools"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        Index("tools_category_idx", "tenant_id", "category"),
        Index(
            "tools_description_idx",
            text("to_tsvector('english'::regconfig, description)"),
            postgresql_using="gin",
        ),
    )

    name: Mapped[str] = words(255, least=1)
    description: Mapped[str] = column(
        check="octet_length({0}) <= 200000", comment="What it does, for whoever looks for a tool"
    )
    category: Mapped[str | None] = words(100)
    schema: Mapped[Json] = column(comment="Schema of the function call: name, description, parameters")
    code: Mapped[str | None] = column(comment="Implementation of a tool that a user made")
    code_type: Mapped[str | None] = one_of("python", "javascript", "builtin")
    is_builtin: Mapped[bool] = column(default="false")
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")


class ToolVector(InSpace, Base):
    """The vector of a tool's description in a space (000)."""

    __tablename__ = "tool_vectors"

    tool_id: Mapped[UUID] = reference("tools.tools", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The tool's")


class ToolDependency(Keyed, Tenanted, Created, Base):
    """One tool that another needs, recommends or can use."""

    __tablename__ = "tool_dependencies"
    __table_args__ = (
        UniqueConstraint("tool_id", "depends_on_tool_id"),
        CheckConstraint("tool_id <> depends_on_tool_id", name="itself"),
    )

    tool_id: Mapped[UUID] = reference("tools.tools")
    depends_on_tool_id: Mapped[UUID] = reference("tools.tools")
    dependency_type: Mapped[str] = one_of("requires", "recommends", "optional", default="requires")


class PersonaTool(Keyed, Tenanted, Touched, Base):
    """A tool that a persona may use."""

    __tablename__ = "persona_tools"
    __table_args__ = (UniqueConstraint("persona_id", "tool_id"),)

    persona_id: Mapped[UUID] = reference("assistants.personas")
    tool_id: Mapped[UUID] = reference("tools.tools")
    is_enabled: Mapped[bool] = column(default="true")
    config: Mapped[Json | None] = column(comment="Limits and settings; a key stands here as a reference to the vault")


class ToolExecution(Tenanted, Created, Base):
    """One call of a tool, within a run (000) or a conversation (004). Parted by the month of its start."""

    __tablename__ = "tool_executions"
    __table_args__ = (
        _message(),
        CheckConstraint("run_id IS NULL OR tool_id IS NOT NULL AND trace_id IS NOT NULL", name="run"),
        CheckConstraint("tool_id IS NOT NULL OR tool_name IS NOT NULL", name="tool"),
        CheckConstraint(_MESSAGE, name="message"),
        CheckConstraint(_ERROR, name="error"),
        Index(None, "message_id"),
        Index("tool_executions_trace_id_idx", "tenant_id", "trace_id"),
        Index("tool_executions_tool_name_idx", "tenant_id", "tool_name"),
        Index("tool_executions_status_idx", "tenant_id", "status"),
        Index("tool_executions_started_at_idx", "tenant_id", text("started_at DESC")),
        Index("tool_executions_created_at_idx", "tenant_id", "created_at"),
        {"postgresql_partition_by": "RANGE (started_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    tool_id: Mapped[UUID | None] = reference("tools.tools", on_delete="RESTRICT")
    run_id: Mapped[UUID | None] = reference("assistants.runs")
    run_step_id: Mapped[UUID | None] = reference("assistants.run_steps", on_delete="SET NULL")
    conversation_id: Mapped[UUID | None] = reference("assistants.conversations")
    message_id: Mapped[UUID | None] = column()
    message_created_at: Mapped[datetime | None] = column(comment="The message's partition")
    agent_id: Mapped[UUID | None] = reference("assistants.agents")
    trace_id: Mapped[str | None] = words(255, comment="The run's")
    tool_name: Mapped[str | None] = words(255, least=1, comment="As it was called; may be of no registered tool")
    input: Mapped[Json] = column()
    output: Mapped[Any | None] = column(JSONB)
    status: Mapped[str | None] = one_of("success", "error", "timeout", comment=_STATUS)
    error_message: Mapped[str | None] = column()
    duration_ms: Mapped[int | None] = column(check="{0} >= 0", comment="Milliseconds")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
    started_at: Mapped[datetime] = column(primary_key=True, default="now()")
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at")


class McpServer(Keyed, Touched, SoftDeleted, Base):
    """An MCP server: of the installation where it has no tenant, else of that tenant. A public one is seen by all."""

    __tablename__ = "mcp_servers"
    __table_args__ = (
        Index(
            "mcp_servers_slug_key",
            "tenant_id",
            "slug",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(None, "tenant_id"),
        Index(None, "slug"),
        Index("mcp_servers_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index(None, "category"),
        Index(None, "status"),
        CheckConstraint("tenant_id IS NOT NULL OR is_public", name="owner"),
        CheckConstraint("server_type <> 'stdio' OR command IS NOT NULL", name="command"),
    )

    tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("identity.tenants.id", ondelete="CASCADE"), sort_order=-20, comment="None: the installation's own"
    )
    name: Mapped[str] = words(255, least=1)
    slug: Mapped[str] = column(check=SLUG)
    description: Mapped[str | None] = column()
    version: Mapped[str | None] = words(50, comment="The server's own")
    category: Mapped[str | None] = words(100, comment="system, integration, data, ...")
    server_type: Mapped[str] = one_of("stdio", "sse")
    command: Mapped[str | None] = column(comment="What starts the server")
    config_schema: Mapped[Json] = column(default="'{}'", comment="What a tenant's configuration must look like")
    tool_definitions: Mapped[JsonList] = column(default="'[]'", check="jsonb_typeof({0}) = 'array'")
    resource_definitions: Mapped[JsonList] = column(default="'[]'", check="jsonb_typeof({0}) = 'array'")
    status: Mapped[str] = one_of("active", "deprecated", "disabled", default="active")
    is_public: Mapped[bool] = column(default="false", comment="Available to all tenants")
    documentation_url: Mapped[str | None] = words(2000)
    repository_url: Mapped[str | None] = words(2000)
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class McpServerConfig(Keyed, Tenanted, Touched, Base):
    """How a tenant uses an MCP server: a public one, or one of its own."""

    __tablename__ = "mcp_server_configs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "mcp_server_id"),
        Index("mcp_server_configs_enabled_idx", "tenant_id", "enabled"),
    )

    mcp_server_id: Mapped[UUID] = reference("tools.mcp_servers", shared=True)
    enabled: Mapped[bool] = column(default="true")
    config: Mapped[Json] = column(default="'{}'", comment="A key stands here as a reference to the vault")
    environment: Mapped[Json] = column(
        default="'{}'", comment="Environment variables; a key stands here as a reference to the vault"
    )
    resource_limits: Mapped[Json] = column(default="'{}'", comment="Time, memory, ...")
    allowed_users: Mapped[Any] = column(
        JSONB,
        default="'\"all\"'",
        check="{0} = '\"all\"' OR jsonb_typeof({0}) = 'array'",
        comment='Keys of users, or "all"',
    )
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")


class McpToolExecution(Tenanted, Base):
    """One call of an MCP server's tool. Parted by the month of its start."""

    __tablename__ = "mcp_tool_executions"
    __table_args__ = (
        _message(),
        CheckConstraint(_MESSAGE, name="message"),
        CheckConstraint(_ERROR, name="error"),
        Index(None, "message_id"),
        Index("mcp_tool_executions_tool_name_idx", "tenant_id", "tool_name"),
        Index("mcp_tool_executions_status_idx", "tenant_id", "status"),
        Index("mcp_tool_executions_started_at_idx", "tenant_id", text("started_at DESC")),
        {"postgresql_partition_by": "RANGE (started_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    mcp_server_id: Mapped[UUID | None] = reference(
        "tools.mcp_servers", shared=True, on_delete="SET NULL", comment="None: the server is gone"
    )
    agent_id: Mapped[UUID | None] = reference("assistants.agents")
    conversation_id: Mapped[UUID | None] = reference("assistants.conversations")
    message_id: Mapped[UUID | None] = column()
    message_created_at: Mapped[datetime | None] = column(comment="The message's partition")
    tool_name: Mapped[str] = words(255, least=1)
    parameters: Mapped[Json] = column(default="'{}'")
    result: Mapped[Any | None] = column(JSONB)
    status: Mapped[str | None] = one_of("success", "error", "timeout", comment=_STATUS)
    error_message: Mapped[str | None] = column()
    error_code: Mapped[str | None] = words(100)
    duration_ms: Mapped[int | None] = column(check="{0} >= 0", comment="Milliseconds")
    server_instance_id: Mapped[str | None] = words(255)
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
    started_at: Mapped[datetime] = column(primary_key=True, default="now()")
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at")
