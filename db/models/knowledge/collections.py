"""Collections: what documents are gathered in, and how they are cut (004)."""

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped
from sqlalchemy.schema import conv

from db.models.base import SLUG, Base, Json, Keyed, SoftDeleted, Tenanted, Touched, column, one_of, words

_OVERLAP = "chunk_overlap >= 0 AND chunk_overlap * 2 <= chunk_size"


class Collection(Keyed, Tenanted, Touched, SoftDeleted, Base):
    """A collection of documents: a knowledge base, with how its documents are cut into chunks."""

    __tablename__ = "collections"
    __table_args__ = (
        CheckConstraint(_OVERLAP, name=conv("collections_check")),
        Index("collections_slug_key", "tenant_id", "slug", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("collections_status_idx", "tenant_id", "status"),
        Index("collections_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    name: Mapped[str] = words(255, least=1)
    slug: Mapped[str] = column(check=SLUG, comment="Unique in the tenant among collections that are not deleted")
    description: Mapped[str | None] = column()
    embedding_model: Mapped[str | None] = column(
        comment="The model that is wished for; vectors say theirs by their space"
    )
    chunk_size: Mapped[int] = column(default="256", check="{0} BETWEEN 16 AND 8192", comment="Tokens of cl100k_base")
    chunk_overlap: Mapped[int] = column(default="32", comment="Tokens that a chunk shares with the one before")
    document_count: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="Documents that are not deleted, as last counted"
    )
    chunk_count: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="Chunks of these documents' current versions, as last counted"
    )
    status: Mapped[str] = one_of("active", "archived", default="active")
    settings: Mapped[Json] = column(default="'{}'")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
