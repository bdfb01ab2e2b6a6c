"""Clients (003), their and users' conversations with voice personas and agents, and the messages (003, 004)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    EMAIL,
    Base,
    External,
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


class Client(Keyed, Tenanted, External, Touched, Base):
    """A customer of a user's, to whom that user's voice personas talk."""

    __tablename__ = "clients"
    __table_args__ = (
        Index(
            "clients_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index(
            "clients_user_telegram_key",
            "user_id",
            "telegram_id",
            "tenant_id",
            unique=True,
            postgresql_where=text("telegram_id IS NOT NULL"),
        ),
        Index("clients_telegram_id_idx", "tenant_id", "telegram_id"),
        Index("clients_email_idx", "tenant_id", "email"),
    )

    user_id: Mapped[UUID] = reference("identity.users")
    name: Mapped[str] = words(255, least=1)
    email: Mapped[str | None] = column(check=EMAIL)
    telegram_id: Mapped[str | None] = words(255, least=1, comment="One client of a user for each")
    phone: Mapped[str | None] = words(50)
    notes: Mapped[str | None] = column()
    meta: Mapped[Json] = column(name="metadata", default="'{}'", comment="Company, role, tags")
    last_contact: Mapped[datetime | None] = column(
        comment="Start of the last conversation, there or gone; kept by trigger"
    )


class Conversation(Keyed, Tenanted, External, Touched, SoftDeleted, Base):
    """A talk with a voice persona or with an agent; a trigger keeps status and ended_at agreed."""

    __tablename__ = "conversations"
    __table_args__ = (
        CheckConstraint("num_nonnulls(persona_id, agent_id) = 1", name="kind"),
        CheckConstraint("persona_id IS NULL OR channel IS NOT NULL", name="persona_channel"),
        CheckConstraint("(status = 'active') = (ended_at IS NULL)", name="end"),
        Index(
            "conversations_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("conversations_status_idx", "tenant_id", "status"),
        Index("conversations_channel_idx", "tenant_id", "channel"),
        Index("conversations_recent_idx", "tenant_id", text("started_at DESC")),
        Index("conversations_persona_recent_idx", "persona_id", text("started_at DESC")),
        Index("conversations_active_idx", "persona_id", postgresql_where=text("ended_at IS NULL")),
        Index("conversations_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    persona_id: Mapped[UUID | None] = reference("assistants.voice_personas", comment="Who answers, unless an agent")
    agent_id: Mapped[UUID | None] = reference("assistants.agents", comment="Who answers, unless a voice persona")
    client_id: Mapped[UUID | None] = reference("assistants.clients", on_delete="SET NULL")
    user_id: Mapped[UUID | None] = reference("identity.users", comment="Who talks, unless a client")
    channel: Mapped[str | None] = one_of(
        "telegram", "email", "whatsapp", comment="None where an agent is talked to in the product itself"
    )
    title: Mapped[str | None] = words(500)
    summary: Mapped[str | None] = column()
    status: Mapped[str] = one_of("active", "completed", "failed", "cancelled", default="active")
    context: Mapped[Json] = column(default="'{}'")
    meta: Mapped[Json] = column(name="metadata", default="'{}'", comment="What belongs to the channel")
    message_count: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="Messages that there are; kept by trigger on them"
    )
    started_at: Mapped[datetime] = column(default="now()")
    ended_at: Mapped[datetime | None] = column(
        check="{0} >= started_at", comment="When it ended in any way; none: goes on"
    )
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at", comment="When it was completed")


class Message(Tenanted, External, Base):
    """One message of a conversation. Parted by months of created_at, so the product's own key is not held unique."""

    __tablename__ = "messages"
    __table_args__ = (
        CheckConstraint(
            "sender IS NOT DISTINCT FROM CASE WHEN role = 'user' THEN 'user' "
            "WHEN role IN ('assistant', 'persona') THEN 'persona' END",
            name="speaker",
        ),
        CheckConstraint("content IS NOT NULL OR tool_calls <> '[]' OR tool_results <> '[]'", name="said"),
        Index("messages_external_id_idx", "tenant_id", "external_id", postgresql_where=text("external_id IS NOT NULL")),
        Index("messages_sequence_idx", "conversation_id", "sequence_number"),
        Index("messages_created_at_idx", "tenant_id", text("created_at DESC")),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"), sort_order=90)
    conversation_id: Mapped[UUID] = reference("assistants.conversations")
    sequence_number: Mapped[int | None] = column(check="{0} >= 0", comment="Order within the conversation")
    role: Mapped[str] = one_of("user", "assistant", "system", "tool", "persona")
    sender: Mapped[str | None] = one_of(
        "user", "persona", comment="What role says of two sides; a trigger fills either from the other"
    )
    content: Mapped[str | None] = column(comment="None where a model calls tools and says nothing")
    audio_url: Mapped[str | None] = column(comment="The content as speech")
    rag_context: Mapped[JsonList | None] = column(comment="What retrieval found for the answer")
    tool_calls: Mapped[JsonList] = column(default="'[]'", check=ARRAY)
    tool_results: Mapped[JsonList] = column(default="'[]'", check=ARRAY)
    model_used: Mapped[str | None] = words(255)
    token_count: Mapped[int | None] = column(check="{0} >= 0")
    tokens_used: Mapped[Json | None] = column(comment="Tokens as prompt, completion, total")
    latency_ms: Mapped[int | None] = column(check="{0} >= 0", comment="Milliseconds that the model took")
    processing_time_ms: Mapped[int | None] = column(
        check="{0} >= 0", comment="Milliseconds from question to answer, retrieval and speech included"
    )
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
