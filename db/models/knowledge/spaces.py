"""Spaces of vectors: what is embedded, by which model. Embeddings of 000, 001, 003 and 004 live here."""

from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import conv

from db.models.base import Base, Created, InSpace, Keyed, column, one_of, reference, words


class EmbeddingModel(Keyed, Created, Base):
    """A model that makes vectors of texts, in one revision."""

    __tablename__ = "embedding_models"
    __table_args__ = (UniqueConstraint("name", "revision", "dimensions"),)

    name: Mapped[str] = words(255, least=1)
    revision: Mapped[str] = words(64, least=1)
    dimensions: Mapped[int] = column(check="{0} BETWEEN 1 AND 16000")
    max_tokens: Mapped[int] = column(check="{0} > 0", comment="How much of a text it reads")


class Space(Keyed, Created, Base):
    """What is embedded, by which model. Its vectors have a partition of their own; searches read the active one."""

    __tablename__ = "spaces"
    __table_args__ = (
        UniqueConstraint("kind", "model_id"),
        CheckConstraint("NOT (is_active AND is_dropped)", name=conv("active_is_kept")),
        Index("spaces_active_key", "kind", unique=True, postgresql_where=text("is_active")),
    )

    kind: Mapped[str] = one_of(
        "chunks", "narratives", "tools", "product_chunks", "transcript_segments", comment="What is embedded"
    )
    model_id: Mapped[UUID] = reference("knowledge.embedding_models", shared=True, on_delete="NO ACTION")
    is_active: Mapped[bool] = column(default="false")
    precision: Mapped[str] = one_of("vector", "halfvec", comment="What its index compares by")
    is_dropped: Mapped[bool] = column(default="false", comment="Its partition goes next")


class ChunkVector(InSpace, Base):
    """The vector of a chunk in a space: what a design keeps on the chunk, with the model that made it."""

    __tablename__ = "chunk_vectors"

    chunk_id: Mapped[UUID] = reference("knowledge.chunks", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The chunk's")


class ProductChunkVector(InSpace, Base):
    """The vector of a product's piece in a space (003)."""

    __tablename__ = "product_chunk_vectors"

    product_chunk_id: Mapped[UUID] = reference("knowledge.product_chunks", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The piece's")


class TranscriptSegmentVector(InSpace, Base):
    """The vector of a transcript's segment in a space (003)."""

    __tablename__ = "transcript_segment_vectors"

    transcript_segment_id: Mapped[UUID] = reference("knowledge.transcript_segments", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The segment's")
