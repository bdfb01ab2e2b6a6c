"""Runs of a persona's agents and their steps (000)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from db.models.base import Base, Created, Json, Keyed, Tenanted, column, one_of, reference

TRACE_ID = "{0} ~ '^run-[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'"
"""The check of a run's trace id: `run-` and a UUID."""


class Run(Keyed, Tenanted, Created, Base):
    """An agent at work on one task of a user's."""

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("trace_id"),
        Index("runs_status_idx", "tenant_id", "status"),
        Index("runs_created_at_idx", "tenant_id", "created_at"),
        Index(None, "persona_id", "completed_at"),
    )

    agent_id: Mapped[UUID] = reference("assistants.agents")
    persona_id: Mapped[UUID] = reference("assistants.personas")
    user_id: Mapped[UUID] = reference("identity.users", comment="Who asked for it")
    trace_id: Mapped[str] = column(check=TRACE_ID, comment="What its spans and log lines carry: run- and a UUID")
    status: Mapped[str] = one_of("pending", "running", "completed", "failed", "cancelled", default="pending")
    input: Mapped[str] = column(comment="The task, as the user wrote it")
    output: Mapped[str | None] = column()
    error_message: Mapped[str | None] = column()
    started_at: Mapped[datetime | None] = column()
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at", comment="When it ended in any way")


class RunStep(Keyed, Tenanted, Created, Base):
    """One step of a run: a call of a model or of a tool, a retrieval, an error."""

    __tablename__ = "run_steps"
    __table_args__ = (
        CheckConstraint("tool_id IS NULL OR step_type = 'tool_call'", name="tool_call"),
        Index(None, "run_id", "step_number"),
    )

    run_id: Mapped[UUID] = reference("assistants.runs")
    step_number: Mapped[int] = column(check="{0} >= 0", comment="Order within the run")
    step_type: Mapped[str] = one_of("llm_call", "tool_call", "rag_retrieval", "error")
    tool_id: Mapped[UUID | None] = reference("tools.tools", on_delete="SET NULL", comment="Of a tool call")
    input: Mapped[Json | None] = column(comment="Prompt or parameters")
    output: Mapped[Json | None] = column(comment="Answer or result")
    duration_ms: Mapped[int | None] = column(check="{0} >= 0", comment="Milliseconds")
