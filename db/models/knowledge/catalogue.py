"""What personas sell and how they speak: product catalogues and transcripts, with their chunks (003)."""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKeyConstraint, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Created, External, Json, Keyed, Tenanted, Touched, amount, column, reference, words


def _external_key(table: str) -> Index:
    where = text("external_id IS NOT NULL")
    return Index(f"{table}_external_id_key", "tenant_id", "external_id", unique=True, postgresql_where=where)


def _text_index(name: str, expression: str) -> Index:
    return Index(name, text(f"to_tsvector('english', {expression})"), postgresql_using="gin")


class Product(Keyed, Tenanted, External, Touched, Base):
    """A product of a user's catalogue."""

    __tablename__ = "products"
    __table_args__ = (
        _external_key("products"),
        Index("products_catalog_id_idx", "tenant_id", "catalog_id"),
        Index("products_category_idx", "tenant_id", "category"),
        Index("products_in_stock_idx", "tenant_id", "in_stock"),
        Index("products_user_in_stock_idx", "user_id", "in_stock", postgresql_where=text("in_stock")),
        Index("products_metadata_idx", "metadata", postgresql_using="gin"),
        _text_index("products_name_tsvector_idx", "name"),
        _text_index("products_description_tsvector_idx", "description"),
        _text_index("products_tsvector_idx", "(name || ' ') || COALESCE(description, '')"),
    )

    user_id: Mapped[UUID] = reference("identity.users")
    catalog_id: Mapped[str | None] = words(255, comment="Groups what came by one upload")
    name: Mapped[str] = words(500, least=1)
    description: Mapped[str | None] = column(check="octet_length({0}) <= 200000")
    price: Mapped[Decimal | None] = amount(Numeric(10, 2))
    currency: Mapped[str] = words(10, least=1, default="USD")
    sku: Mapped[str | None] = words(255)
    category: Mapped[str | None] = words(255)
    in_stock: Mapped[bool] = column(default="true")
    meta: Mapped[Json] = column(name="metadata", default="'{}'", comment="Colour, size, material and the like")


class ProductChunk(Keyed, Tenanted, External, Created, Base):
    """A piece of what is known of a product, found as a whole. Its embedding lives in a space of its kind."""

    __tablename__ = "product_chunks"
    __table_args__ = (
        _external_key("product_chunks"),
        Index("product_chunks_chunk_index_idx", "product_id", "chunk_index"),
    )

    product_id: Mapped[UUID] = reference("knowledge.products")
    content: Mapped[str] = column(check="{0} <> ''")
    chunk_index: Mapped[int] = column(check="{0} >= 0", comment="Its place in the product, from 0")
    token_count: Mapped[int | None] = column(check="{0} >= 0")
    meta: Mapped[Json] = column(name="metadata", default="'{}'", comment="The page or section that it comes from")


class TranscriptSegment(Keyed, Tenanted, External, Created, Base):
    """What a persona says in a stretch of a video. Its embedding lives in a space of its kind."""

    __tablename__ = "transcript_segments"
    __table_args__ = (
        _external_key("transcript_segments"),
        UniqueConstraint("persona_id", "youtube_url", "segment_index"),
        CheckConstraint("timestamp_end >= timestamp_start", name="order"),
        ForeignKeyConstraint(
            ["persona_id", "tenant_id"],
            ["assistants.voice_personas.id", "assistants.voice_personas.tenant_id"],
            ondelete="CASCADE",
        ),
    )

    persona_id: Mapped[UUID] = mapped_column()
    youtube_url: Mapped[str] = words(2000, least=1, is_key=True)
    segment_index: Mapped[int] = column(check="{0} >= 0", comment="Its place in the video, from 0")
    content: Mapped[str] = column(check="{0} <> ''")
    timestamp_start: Mapped[float] = amount(Double, comment="Seconds into the video")
    timestamp_end: Mapped[float] = amount(Double, comment="Seconds into the video")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
