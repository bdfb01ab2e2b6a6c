"""Agents: a persona's own (000), and such as stand alone (004)."""

from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, Double, Index, text
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


class Agent(Keyed, Tenanted, Touched, SoftDeleted, Base):
    """What works on tasks through a language model with tools: one of a persona, or one known by its slug."""

    __tablename__ = "agents"
    __table_args__ = (
        CheckConstraint("persona_id IS NOT NULL OR slug IS NOT NULL", name="kind"),
        CheckConstraint(
            "persona_id IS NOT NULL OR num_nonnulls(system_prompt_override, preferred_provider) = 0", name="override"
        ),
        Index("agents_slug_key", "tenant_id", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("agents_status_idx", "tenant_id", "status"),
        Index("agents_active_idx", "tenant_id", "status", postgresql_where=text("deleted_at IS NULL")),
        Index("agents_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    persona_id: Mapped[UUID | None] = reference("assistants.personas", comment="None: stands alone")
    name: Mapped[str] = words(255, least=1)
    slug: Mapped[str | None] = column(check=SLUG, comment="Unique in the tenant among agents that are not deleted")
    description: Mapped[str | None] = column()
    system_prompt: Mapped[str | None] = column(check="{0} <> ''")
    system_prompt_override: Mapped[str | None] = column(comment="In place of the persona's")
    model_provider: Mapped[str | None] = words(50, least=1)
    preferred_provider: Mapped[str | None] = words(50, comment="In place of the persona's default_provider")
    model_name: Mapped[str | None] = words(255, least=1)
    temperature: Mapped[float | None] = column(Double, check="{0} BETWEEN 0 AND 2")
    max_tokens: Mapped[int | None] = column(check="{0} > 0")
    capabilities: Mapped[JsonList] = column(default="'[]'", check=ARRAY)
    tools: Mapped[JsonList] = column(default="'[]'", check=ARRAY, comment="Names of tools")
    tool_permissions: Mapped[JsonList | None] = column(
        check=ARRAY, comment="Keys of tools, in place of the persona's; none: the persona's stand"
    )
    timeout_seconds: Mapped[int | None] = column(check="{0} > 0")
    max_iterations: Mapped[int | None] = column(check="{0} > 0")
    memory_enabled: Mapped[bool] = column(default="false")
    status: Mapped[str] = one_of("active", "inactive", "archived", default="active")
    is_active: Mapped[bool] = column(Computed("status = 'active'", persisted=True), comment="What status says")
    version: Mapped[str] = words(50, least=1, default="1.0.0", comment="As its makers count; no lock")
    tags: Mapped[JsonList] = column(default="'[]'", check=ARRAY)
    config: Mapped[Json] = column(default="'{}'")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
