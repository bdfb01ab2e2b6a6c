"""The audit: what was done (000, 004), and what changed in which row (002). No foreign keys lead out of it."""

from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json, column, one_of, words


class AuditEvent(Base):
    """A deed: who did what to which thing, and how it ended. Only ever added; parted by the month."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("audit_events_tenant_id_created_at_idx", "tenant_id", text("created_at DESC")),
        Index(None, "user_id"),
        Index(None, "persona_id", "created_at"),
        Index(None, "run_id"),
        Index(None, "trace_id"),
        Index(None, "event_type"),
        Index(None, "resource_type"),
        Index(None, "created_at"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    tenant_id: Mapped[UUID | None] = column(comment="None: of the installation")
    user_id: Mapped[UUID | None] = column(
        default="audit.session_user_id()",
        comment="Whom the session acts for (app.current_user_id), or who asked for the run or talks",
    )
    persona_id: Mapped[UUID | None] = column()
    run_id: Mapped[UUID | None] = column()
    trace_id: Mapped[str | None] = column(
        check="length({0}) <= 255",
        default="audit.session_trace_id()",
        comment="The run's, or app.correlation_id where it is a UUID",
    )
    event_type: Mapped[str] = words(100, least=1, comment="tool_call, rag_retrieval, document.deleted …")
    event_category: Mapped[str] = one_of(
        "action", "access", "error", "system", comment="error: a deed that failed; system: what came from outside"
    )
    description: Mapped[str] = column()
    actor: Mapped[str] = column(check="length({0}) <= 255", default="session_user", comment="The login")
    resource_type: Mapped[str | None] = words(100)
    resource_id: Mapped[str | None] = words(255)
    old_values: Mapped[Json | None] = column()
    new_values: Mapped[Json | None] = column()
    status: Mapped[str] = one_of("success", "failure", default="success")
    error_message: Mapped[str | None] = column(
        comment="The kind of failure; its words stand on the row that the deed is of"
    )
    ip_address: Mapped[IPv4Address | IPv6Address | None] = column(INET)
    user_agent: Mapped[str | None] = column()
    meta: Mapped[Json] = column(
        name="metadata",
        default="'{}'",
        comment="Keys, names, counts and durations; never what was asked, said or sent",
    )
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))


class AuditLog(Base):
    """A row's change, written by triggers alone: never changed, never deleted but by the month."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("audit_log_record_idx", "table_schema", "table_name", "record_id", "changed_at"),
        Index(None, "tenant_id", "changed_at"),
        Index(None, "changed_by", "changed_at"),
        Index("audit_log_correlation_id_idx", "correlation_id", postgresql_where=text("correlation_id IS NOT NULL")),
        {"postgresql_partition_by": "RANGE (changed_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    tenant_id: Mapped[UUID | None] = column(comment="The row's tenant, there or gone")
    table_schema: Mapped[str] = words(63, least=1)
    table_name: Mapped[str] = words(100, least=1)
    record_id: Mapped[str] = column(comment="The row's key as text; * for all rows")
    operation: Mapped[str] = one_of("INSERT", "UPDATE", "DELETE", "TRUNCATE", "CLEANUP", "ARCHIVE")
    old_values: Mapped[Json | None] = column(comment="Without secrets and what opens them")
    new_values: Mapped[Json | None] = column(comment="Without secrets and what opens them")
    changed_columns: Mapped[list[str] | None] = column(comment="Of an UPDATE; names those that are not copied too")
    changed_by: Mapped[str] = column(
        check="length({0}) <= 255",
        default="audit.session_actor()",
        comment="The session's user (app.current_user_id or app.current_user), or its login",
    )
    actor: Mapped[str] = column(check="length({0}) <= 255", default="session_user", comment="The login")
    correlation_id: Mapped[UUID | None] = column(
        default="audit.session_correlation_id()", comment="app.correlation_id, where it is a UUID"
    )
    changed_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))
