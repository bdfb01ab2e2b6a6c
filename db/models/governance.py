"""Agents under approval: personas and their activation, sessions, what was decided about them and why (002).

No session runs without approval: a trigger sees to it, by INSERT and by UPDATE. Events and results are written once,
and outlive the sessions that they judge.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Double, ForeignKeyConstraint, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Created,
    Json,
    JsonList,
    Keyed,
    Tenanted,
    Touched,
    Versioned,
    amount,
    column,
    one_of,
    reference,
    words,
)


class Persona(Keyed, Tenanted, Touched, Base):
    """A role that an agent may take on, with the rules of when it does."""

    __tablename__ = "personas"
    __table_args__ = (
        Index("personas_external_id_key", "tenant_id", "external_id", unique=True),
        UniqueConstraint("tenant_id", "persona_name", "persona_version"),
        Index("personas_active_idx", "tenant_id", "is_active"),
        Index("personas_core_idx", "tenant_id", "is_core"),
        Index("personas_priority_idx", "tenant_id", "priority_level"),
        Index("personas_specialization_idx", "tenant_id", "specialization"),
    )

    external_id: Mapped[str] = words(100, least=1, sort_order=-10, comment="The product's own key")
    persona_name: Mapped[str] = words(255, least=1)
    persona_version: Mapped[str] = words(20, least=1)
    specialization: Mapped[str] = words(255, least=1)
    capabilities: Mapped[Json] = column(default="'{}'")
    activation_rules: Mapped[Json] = column(default="'{}'")
    crisis_scenarios: Mapped[Json] = column(default="'{}'")
    behavioral_patterns: Mapped[Json] = column(default="'{}'")
    is_active: Mapped[bool] = column(default="true")
    is_core: Mapped[bool] = column(default="false")
    priority_level: Mapped[int] = column(default="5", check="{0} >= 1 AND {0} <= 10", comment="1 to 10")


class AgentSession(Keyed, Tenanted, Touched, Versioned, Base):
    """An agent at work for a user, from its start to its end; it runs with an approval only."""

    __tablename__ = "agent_sessions"
    __table_args__ = (
        Index("agent_sessions_status_idx", "tenant_id", "status"),
        Index("agent_sessions_created_at_idx", "tenant_id", "created_at"),
        Index("agent_sessions_type_idx", "tenant_id", "agent_type"),
        Index("agent_sessions_cost_idx", "tenant_id", "token_cost"),
        Index(
            "agent_sessions_active_idx",
            "created_at",
            "status",
            postgresql_where=text("status IN ('running', 'pending_approval', 'approved')"),
        ),
        Index("agent_sessions_completed_at_idx", "completed_at", postgresql_where=text("status = 'completed'")),
    )

    user_id: Mapped[UUID] = reference("identity.users")
    session_id: Mapped[UUID | None] = reference("identity.user_sessions", on_delete="SET NULL")
    agent_type: Mapped[str] = words(100, least=1)
    agent_config: Mapped[Json] = column(default="'{}'")
    personas_active: Mapped[JsonList] = column(default="'[]'", check="jsonb_typeof({0}) = 'array'")
    governance_state: Mapped[Json] = column(default="'{}'")
    status: Mapped[str] = one_of(
        "initializing",
        "pending_approval",
        "approved",
        "running",
        "completed",
        "failed",
        "cancelled",
        "blocked",
        default="initializing",
    )
    started_at: Mapped[datetime | None] = column()
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at")
    error_details: Mapped[Json | None] = column()
    token_cost: Mapped[Decimal] = amount(Numeric(10, 4), default="0", comment="USD, so far")
    estimated_cost: Mapped[Decimal | None] = amount(Numeric(10, 4), comment="USD, before the start")
    max_cost_limit: Mapped[Decimal | None] = amount(Numeric(10, 4), comment="USD; none if NULL")


class PersonaActivation(Keyed, Tenanted, Touched, Base):
    """A persona at work in an agent's session, from its activation to its end."""

    __tablename__ = "persona_activations"
    __table_args__ = (Index(None, "tenant_id", "activated_at"),)

    agent_session_id: Mapped[UUID] = reference("governance.agent_sessions")
    persona_id: Mapped[UUID] = reference("governance.personas", on_delete="NO ACTION")
    activation_trigger: Mapped[str] = words(100, least=1, comment="What called for it")
    activation_context: Mapped[Json] = column(default="'{}'")
    activated_at: Mapped[datetime] = column(default="now()")
    deactivated_at: Mapped[datetime | None] = column(check="{0} >= activated_at")
    results: Mapped[Json | None] = column()


class AgentInteraction(Keyed, Tenanted, Created, Base):
    """One thing said or done in an agent's session, and what it cost."""

    __tablename__ = "agent_interactions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["agent_session_id", "tenant_id"],
            ["governance.agent_sessions.id", "governance.agent_sessions.tenant_id"],
            ondelete="CASCADE",
        ),
        Index("agent_interactions_session_idx", "agent_session_id", "created_at"),
        Index("agent_interactions_type_idx", "tenant_id", "interaction_type"),
        Index(None, "correlation_id"),
    )

    agent_session_id: Mapped[UUID] = column()
    persona_id: Mapped[UUID | None] = reference("governance.personas", on_delete="SET NULL")
    interaction_type: Mapped[str] = words(100, least=1)
    input: Mapped[Json] = column(default="'{}'")
    output: Mapped[Json | None] = column(comment="NULL while there is none")
    input_tokens: Mapped[int | None] = column(check="{0} >= 0")
    output_tokens: Mapped[int | None] = column(check="{0} >= 0")
    token_cost: Mapped[Decimal] = amount(Numeric(10, 4), default="0", comment="USD")
    duration_ms: Mapped[int | None] = column(check="{0} >= 0", comment="Milliseconds")
    error_details: Mapped[Json | None] = column()
    correlation_id: Mapped[UUID | None] = column()


class GovernanceEvent(Tenanted, Base):
    """A decision about an agent's session, which it outlives: no foreign key, but a copy of whose it was."""

    __tablename__ = "governance_events"
    __table_args__ = (
        UniqueConstraint("id", "created_at", "tenant_id"),
        Index("governance_events_session_idx", "agent_session_id"),
        Index("governance_events_user_idx", "user_id", "created_at"),
        Index("governance_events_type_idx", "tenant_id", "event_type"),
        Index("governance_events_framework_idx", "tenant_id", "framework_type"),
        Index("governance_events_approved_idx", "tenant_id", "approved"),
        Index("governance_events_created_at_idx", "tenant_id", "created_at"),
        Index("governance_events_correlation_idx", "correlation_id"),
        Index(
            "governance_events_rejected_idx",
            "created_at",
            "decision_reason",
            postgresql_where=text("approved = false"),
        ),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"), sort_order=90)
    agent_session_id: Mapped[UUID] = column(comment="The session judged, there or gone")
    user_id: Mapped[UUID] = column(comment="The session's; a trigger copies it")
    agent_type: Mapped[str] = words(100, least=1, comment="The session's; a trigger copies it")
    event_type: Mapped[str] = one_of(
        "pre_agent_spawn",
        "post_agent_spawn",
        "pre_persona_activation",
        "post_persona_activation",
        "cost_validation",
        "consensus_check",
        "emergency_stop",
        "circuit_breaker",
    )
    framework_type: Mapped[str] = one_of("sarah_three_questions", "alex_3am_test", "consensus", "emergency")
    approved: Mapped[bool] = column()
    validation_context: Mapped[Json] = column(default="'{}'")
    decision_details: Mapped[Json] = column(default="'{}'")
    decision_reason: Mapped[str | None] = column(
        check="octet_length({0}) <= 2000", comment="At most 2,000 bytes: it stands in an index"
    )
    fallback_triggered: Mapped[bool] = column(default="false")
    created_by: Mapped[str | None] = words(255)
    correlation_id: Mapped[UUID | None] = column()


class ValidationResult(Tenanted, Base):
    """What one validation found for a decision; stands in the month of its event and goes with it."""

    __tablename__ = "validation_results"
    __table_args__ = (
        ForeignKeyConstraint(
            ["event_id", "event_created_at", "tenant_id"],
            [
                "governance.governance_events.id",
                "governance.governance_events.created_at",
                "governance.governance_events.tenant_id",
            ],
            ondelete="CASCADE",
        ),
        Index("validation_results_event_idx", "event_id"),
        Index("validation_results_type_idx", "tenant_id", "validation_type"),
        Index(
            "validation_results_failed_idx",
            "event_created_at",
            "validation_type",
            postgresql_where=text("passed = false"),
        ),
        {"postgresql_partition_by": "RANGE (event_created_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    event_created_at: Mapped[datetime] = mapped_column(primary_key=True, comment="The event's created_at")
    event_id: Mapped[UUID] = column()
    validation_type: Mapped[str] = words(100, least=1, comment="The question asked or the rule applied")
    passed: Mapped[bool] = column()
    score: Mapped[float | None] = column(Double, check="{0} BETWEEN 0 AND 1")
    message: Mapped[str | None] = column()
    details: Mapped[Json] = column(default="'{}'")
    created_at: Mapped[datetime] = column(default="now()", sort_order=90)
