"""Workflows of several agents, and their executions (004)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped

from db.models.base import (
    SLUG,
    Base,
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

ARRAY = "jsonb_typeof({0}) = 'array'"


class Workflow(Keyed, Tenanted, Touched, SoftDeleted, Base):
    """A plan in which several agents work together, as steps or as a graph of them."""

    __tablename__ = "workflows"
    __table_args__ = (
        Index("workflows_slug_key", "tenant_id", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("workflows_status_idx", "tenant_id", "status"),
        Index("workflows_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    name: Mapped[str] = words(255, least=1)
    slug: Mapped[str] = column(check=SLUG, comment="Unique in the tenant among workflows that are not deleted")
    description: Mapped[str | None] = column()
    definition: Mapped[Json] = column(
        check="jsonb_typeof({0}) IN ('object', 'array')", comment="A graph as an object, or an array of steps"
    )
    agent_ids: Mapped[JsonList] = column(default="'[]'", check=ARRAY, comment="Keys of the agents that take part")
    timeout_seconds: Mapped[int | None] = column(check="{0} > 0")
    retry_config: Mapped[Json] = column(default="'{}'", check="jsonb_typeof({0}) = 'object'")
    status: Mapped[str] = one_of("active", "inactive", "archived", default="active")
    version: Mapped[str] = words(50, least=1, default="1.0.0", comment="As its makers count; no lock")
    tags: Mapped[JsonList] = column(default="'[]'", check=ARRAY)
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class WorkflowExecution(Keyed, Tenanted, Touched, Base):
    """One execution of a workflow."""

    __tablename__ = "workflow_executions"
    __table_args__ = (
        CheckConstraint("steps_completed <= steps_total", name="progress"),
        Index("workflow_executions_status_idx", "tenant_id", "status"),
        Index("workflow_executions_recent_idx", "tenant_id", text("started_at DESC")),
    )

    workflow_id: Mapped[UUID] = reference("assistants.workflows")
    user_id: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL", comment="Who started it")
    status: Mapped[str] = one_of("running", "completed", "failed", "cancelled", default="running")
    current_step: Mapped[str | None] = words(255, comment="The step at work, by its name in the definition")
    input: Mapped[Json] = column(default="'{}'")
    output: Mapped[Json | None] = column()
    error_message: Mapped[str | None] = column()
    steps_completed: Mapped[int] = column(default="0", check="{0} >= 0")
    steps_total: Mapped[int | None] = column(check="{0} >= 0", comment="None: not known beforehand")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
    started_at: Mapped[datetime] = column(default="now()")
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at", comment="When it ended in any way")
