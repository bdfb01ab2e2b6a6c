"""Individuals, what was observed and written about them, and the personas that mapper rules generate from it (001)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Double, ForeignKeyConstraint, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Created,
    External,
    InSpace,
    Json,
    Keyed,
    SoftDeleted,
    Tenanted,
    Touched,
    Versioned,
    column,
    one_of,
    reference,
    words,
)

_PERSON = (["person_id", "tenant_id"], ["people.persons.id", "people.persons.tenant_id"])


class Person(Keyed, Tenanted, External, Touched, SoftDeleted, Base):
    """An individual whom observations, narratives and generated personas are about; all of them go with the row."""

    __tablename__ = "persons"
    __table_args__ = (
        Index(
            "persons_external_id_key",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        Index("persons_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    display_name: Mapped[str | None] = words(255)
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class Observation(Keyed, Tenanted, Created, Base):
    """Raw input about a person from one source: a work session, what a user said, a calendar's event."""

    __tablename__ = "observations"
    __table_args__ = (
        ForeignKeyConstraint(*_PERSON, ondelete="CASCADE"),
        Index("observations_person_created_idx", "person_id", text("created_at DESC")),
    )

    person_id: Mapped[UUID] = column()
    observation_type: Mapped[str] = words(50, least=1)
    content: Mapped[Json] = column(comment="In the form of its type")
    meta: Mapped[Json | None] = column(name="metadata", comment="Source, context")
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")


class Mindscape(Keyed, Tenanted, Touched, Versioned, Base):
    """A person's traits and patterns, gathered from what was observed and written; one a person."""

    __tablename__ = "mindscapes"
    __table_args__ = (ForeignKeyConstraint(*_PERSON, ondelete="CASCADE"), UniqueConstraint("person_id", "tenant_id"))

    person_id: Mapped[UUID] = column()
    traits: Mapped[Json] = column(
        default="'{}'", check="jsonb_typeof({0}) = 'object'", comment="A tree; a path of it is written with dots"
    )


class Narrative(Keyed, Tenanted, Touched, Base):
    """What a person wrote, or how one of their traits was curated. Its embedding lives in a space."""

    __tablename__ = "narratives"
    __table_args__ = (
        Index("narratives_type_idx", "tenant_id", "narrative_type"),
        Index("narratives_tags_idx", "tags", postgresql_using="gin"),
    )

    person_id: Mapped[UUID] = reference("people.persons")
    narrative_type: Mapped[str] = one_of("self_observation", "curation")
    raw_text: Mapped[str] = column(comment="As it was put in")
    curated_text: Mapped[str | None] = column(comment="Refined from raw_text")
    tags: Mapped[list[str] | None] = column(ARRAY(Text()), check="ops.longest({0}) <= 2000")
    context: Mapped[Json | None] = column()
    trait_path: Mapped[str | None] = words(500, least=1, comment="Of a curation: the trait, with dots")
    curation_action: Mapped[Json | None] = column(comment="Of a curation: what was done")
    source: Mapped[str | None] = words(100)
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")


class NarrativeVector(InSpace, Base):
    """The vector of a narrative in a space (001)."""

    __tablename__ = "narrative_vectors"

    narrative_id: Mapped[UUID] = reference("people.narratives", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The narrative's")


class TraitNarrativeLink(Keyed, Tenanted, Created, Base):
    """How a narrative bears on a trait."""

    __tablename__ = "trait_narrative_links"
    __table_args__ = (Index("trait_narrative_links_trait_idx", "tenant_id", "trait_path"),)

    narrative_id: Mapped[UUID] = reference("people.narratives")
    trait_path: Mapped[str] = words(500, least=1, comment="In a mindscape's traits, with dots")
    link_type: Mapped[str] = one_of("extracted_from", "curates", "supports", "contradicts")
    confidence: Mapped[float | None] = column(Double, check="{0} BETWEEN 0 AND 1")
    meta: Mapped[Json | None] = column(name="metadata")


class MapperConfig(Keyed, Tenanted, Touched, Base):
    """A version of the rules by which personas are generated from traits; at most one version is active."""

    __tablename__ = "mapper_configs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "config_id", "version"),
        Index("mapper_configs_status_idx", "tenant_id", "status"),
        Index(
            "mapper_configs_active_key",
            "tenant_id",
            "config_id",
            unique=True,
            postgresql_where=text("status = 'active'"),
        ),
    )

    config_id: Mapped[str] = words(255, least=1, comment="What all versions of it are known by")
    version: Mapped[int] = column(default="0", check="{0} >= 1", comment="A trigger puts the next number for 0")
    configuration: Mapped[Json] = column(
        check="jsonb_typeof({0}) = 'object'", comment="Metadata, rules and templates in the mapper's form"
    )
    status: Mapped[str] = one_of("draft", "active", "deprecated", default="draft")
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")
    usage_count: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="Personas of it that there are, as last counted"
    )
    meta: Mapped[Json | None] = column(name="metadata")


class Persona(Keyed, Tenanted, Created, Base):
    """A persona generated from a person's mindscape, good until it expires; kept after that, marked as expired."""

    __tablename__ = "personas"
    __table_args__ = (
        Index(None, "expires_at"),
        Index("personas_unmarked_idx", "expires_at", postgresql_where=text("expired_at IS NULL")),
    )

    person_id: Mapped[UUID] = reference("people.persons")
    mapper_id: Mapped[UUID | None] = reference("people.mapper_configs", on_delete="NO ACTION")
    mapper_config_id: Mapped[str | None] = words(255, comment="The mapper's config_id")
    mapper_version: Mapped[int | None] = column(check="{0} >= 1", comment="The mapper's version")
    core: Mapped[Json] = column(comment="Of traits that change seldom")
    overlay: Mapped[Json | None] = column(comment="Of the state of the moment")
    meta: Mapped[Json | None] = column(name="metadata", comment="How it was generated: tokens, duration")
    expires_at: Mapped[datetime | None] = column(
        default="now() + interval '24 hours'", comment="Never, where it is NULL; people.is_expired looks at it"
    )
    expired_at: Mapped[datetime | None] = column(check="{0} >= expires_at", comment="When it was marked as expired")
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")


class PersonaNarrativeUsage(Keyed, Tenanted, Created, Base):
    """A narrative that went into the generation of a persona."""

    __tablename__ = "persona_narrative_usage"

    persona_id: Mapped[UUID] = reference("people.personas")
    narrative_id: Mapped[UUID] = reference("people.narratives")
    usage_type: Mapped[str] = words(50, least=1)
    relevance_score: Mapped[float | None] = column(Double, check="{0} BETWEEN 0 AND 1")
    usage_context: Mapped[Json | None] = column()


class Feedback(Keyed, Tenanted, Created, Base):
    """What a user thought of a generated persona or of one rule's suggestion."""

    __tablename__ = "feedback"
    __table_args__ = (Index("feedback_created_at_idx", "tenant_id", text("created_at DESC")),)

    persona_id: Mapped[UUID | None] = reference("people.personas")
    rating: Mapped[int | None] = column(check="{0} >= 1 AND {0} <= 5", comment="1 to 5 stars")
    helpful: Mapped[bool | None] = column()
    context: Mapped[Json | None] = column(comment="The task at hand, further remarks")
    rule_id: Mapped[str | None] = words(255, comment="The mapper's rule that made the suggestion")
    mapper_version: Mapped[int | None] = column(check="{0} >= 1")
    created_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")
