"""What personas' chunks were condensed to (000): curated chunks, what each was made of, and how."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import conv

from db.models.base import Base, Keyed, Tenanted, Touched, column, one_of, reference, words

_SHA256 = "length({0}) = 32"


class Memory(Keyed, Tenanted, Touched, Base):
    """What a curated chunk was made of, how, and whether searches find it."""

    __tablename__ = "memories"
    __table_args__ = (
        UniqueConstraint("chunk_id"),
        UniqueConstraint("persona_id", "sources_hash"),
        ForeignKeyConstraint(
            ["persona_id", "tenant_id"],
            ["assistants.personas.id", "assistants.personas.tenant_id"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["chunk_id", "tenant_id"], ["knowledge.chunks.id", "knowledge.chunks.tenant_id"], ondelete="CASCADE"
        ),
        CheckConstraint("superseded_by IS NULL OR status = 'superseded'", name=conv("memories_superseded_check")),
        Index("memories_persona_id_idx", "persona_id", "id", postgresql_where=text("status = 'current'")),
    )

    persona_id: Mapped[UUID] = mapped_column()
    chunk_id: Mapped[UUID] = mapped_column(comment="The curated chunk: its text, terms and vectors")
    sources_hash: Mapped[bytes] = column(
        LargeBinary,
        check=_SHA256,
        comment="SHA-256 of its sources' hashes, the method that was wanted and its prompt's version: made once",
    )
    method: Mapped[str] = words(
        100, least=1, comment="merged: one of sources that are nearly equal; else who summed them up"
    )
    model: Mapped[str | None] = words(255, least=1, comment="The language model, if one wrote it")
    prompt_version: Mapped[str] = words(100)
    source_count: Mapped[int] = column(check="{0} > 0", comment="Chunks that it was made of")
    source_token_count: Mapped[int] = column(check="{0} > 0", comment="Their tokens of cl100k_base")
    token_count: Mapped[int] = column(check="{0} > 0", comment="Tokens of cl100k_base")
    status: Mapped[str] = one_of(
        "current",
        "stale",
        "superseded",
        default="current",
        comment="Searches find what is current; of what is stale a source changed or went",
    )
    superseded_by: Mapped[UUID | None] = reference(
        "knowledge.memories",
        on_delete="SET NULL",
        comment="The memory that has its sources and more; NULL once that is gone",
    )


class MemorySource(Base):
    """A chunk that a memory was made of, no matter whether it is still there."""

    __tablename__ = "memory_sources"
    __table_args__ = (
        ForeignKeyConstraint(
            ["memory_id", "tenant_id"], ["knowledge.memories.id", "knowledge.memories.tenant_id"], ondelete="CASCADE"
        ),
        CheckConstraint("merged_into >= 0 AND merged_into <> place", name="merged_into"),
        Index(None, "chunk_id"),
        Index(None, "document_id"),
    )

    memory_id: Mapped[UUID] = mapped_column(primary_key=True)
    place: Mapped[int] = column(
        check="{0} >= 0", primary_key=True, autoincrement=False, comment="Its place among the memory's sources, from 0"
    )
    tenant_id: Mapped[UUID] = mapped_column(info={"is_tenant": True}, comment="The memory's")
    chunk_id: Mapped[UUID] = mapped_column(comment="The chunk, or the one of a later version that has the same text")
    document_id: Mapped[UUID] = mapped_column()
    chunk_index: Mapped[int] = column(check="{0} >= 0", comment="Its place in the document")
    text_hash: Mapped[bytes] = column(LargeBinary, check=_SHA256, comment="The chunk's")
    token_count: Mapped[int] = column(check="{0} > 0", comment="Tokens of cl100k_base")
    merged_into: Mapped[int | None] = column(
        comment="The place of a source that is nearly equal and stands for it; NULL: it stands for itself"
    )
