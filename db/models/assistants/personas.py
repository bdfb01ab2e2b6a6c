"""Personas (000), who else may edit them, and personas that are cloned from a voice (003)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped

from db.models.base import (
    Base,
    Created,
    External,
    Json,
    JsonList,
    Keyed,
    Tenanted,
    Touched,
    column,
    one_of,
    reference,
    words,
)

# Merged level by level: what is nested a thousand deep is more than the server's stack holds.
_PROFILE = "jsonb_typeof({0}) = 'object' AND NOT {0} @? '$.**{{64}}'"


class Persona(Keyed, Tenanted, External, Touched, Base):
    """A character that answers through a language model, with the settings that its agents share."""

    __tablename__ = "personas"
    __table_args__ = (
        Index(
            "personas_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index(None, "tenant_id", "name"),
        CheckConstraint("(process_id IS NULL) = (process_started_at IS NULL)", name="process"),
    )

    name: Mapped[str] = words(255, least=1)
    description: Mapped[str | None] = column()
    system_prompt: Mapped[str] = column(check="{0} <> ''")
    owner_id: Mapped[UUID | None] = reference("identity.users", comment="None: the tenant's own")
    default_provider: Mapped[str] = words(50, default="openai")
    fallback_providers: Mapped[JsonList | None] = column(comment="Names of providers, in the order to try")
    is_active: Mapped[bool] = column(default="true")
    container_id: Mapped[str | None] = words(255, comment="The container that the persona runs in, while it runs")
    host: Mapped[str | None] = column(
        check="length({0}) <= 90 AND {0} ~ '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$'",
        comment="Where its container or process runs, as that host's queue is called; NULL: any worker reaches it",
    )
    process_id: Mapped[int | None] = column(
        check="{0} > 0", comment="The process that it is, on its host, where it has no container"
    )
    process_started_at: Mapped[datetime | None] = column(comment="When that process started: a number is given again")


class PersonaMember(Keyed, Tenanted, Created, Base):
    """A user with whom a persona's owner shares it."""

    __tablename__ = "persona_members"
    __table_args__ = (UniqueConstraint("persona_id", "user_id"),)

    persona_id: Mapped[UUID] = reference("assistants.personas")
    user_id: Mapped[UUID] = reference("identity.users")
    role: Mapped[str] = one_of("editor", "viewer", default="editor")


class VoicePersona(Keyed, Tenanted, External, Touched, Base):
    """A persona that is cloned from the voice in a video (003's personas); only its user sees it."""

    __tablename__ = "voice_personas"
    __table_args__ = (
        UniqueConstraint("user_id", "youtube_url", "tenant_id"),
        Index(
            "voice_personas_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("voice_personas_status_idx", "tenant_id", "status"),
        Index("voice_personas_active_idx", "user_id", "status", postgresql_where=text("status = 'active'")),
    )

    user_id: Mapped[UUID] = reference("identity.users")
    name: Mapped[str] = words(255, least=1)
    role: Mapped[str | None] = words(255, comment="Job title or role, as in 'Founder'")
    voice_id: Mapped[str | None] = words(255, comment="The speech provider's key; none until the voice is cloned")
    youtube_url: Mapped[str] = words(2000, least=1, is_key=True, comment="The video; a user clones it once")
    language: Mapped[str] = words(10, least=2, default="en", comment="ISO 639-1")
    status: Mapped[str] = one_of("pending", "processing", "active", "failed", default="pending")
    error_message: Mapped[str | None] = column(comment="Why, where status is failed")


class PersonaProfile(Keyed, Tenanted, Touched, Base):
    """How a voice persona speaks: what a model found in its transcript, and what its user put in its place."""

    __tablename__ = "persona_profiles"
    __table_args__ = (
        UniqueConstraint("persona_id", "tenant_id"),
        Index(None, "auto_extracted", postgresql_using="gin"),
        Index(None, "manual_overrides", postgresql_using="gin"),
    )

    persona_id: Mapped[UUID] = reference("assistants.voice_personas")
    auto_extracted: Mapped[Json] = column(default="'{}'", check=_PROFILE)
    manual_overrides: Mapped[Json] = column(default="'{}'", check=_PROFILE, comment="Goes before what is extracted")
