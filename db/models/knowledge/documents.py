"""Documents with their texts and chunks (000, 004)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import conv

from db.models.base import (
    Base,
    Created,
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

_SHA256 = "length({0}) = 32"


class Document(Keyed, Tenanted, Touched, SoftDeleted, Base):
    """A document that searches find: of a collection, a persona or neither. Its status follows from its tasks."""

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint("next_version >= current_version", name=conv("documents_check")),
        Index(
            "documents_external_id_key",
            "tenant_id",
            "collection_id",
            "external_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("external_id IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index("documents_status_idx", "tenant_id", "status"),
        Index("documents_uploaded_at_idx", "tenant_id", text("uploaded_at DESC")),
        Index("documents_created_at_idx", "created_at"),
        Index("documents_file_path_idx", "tenant_id", "file_path"),
        Index("documents_file_key_idx", "file_path"),  # COLLATE "C"
        Index("documents_name_idx", "name", "tenant_id"),
        Index(None, "tenant_id", "id"),
        Index("documents_deleted_at_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index(
            "documents_metadata_idx", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}
        ),
    )

    collection_id: Mapped[UUID | None] = reference("knowledge.collections")
    persona_id: Mapped[UUID | None] = reference("assistants.personas")
    external_id: Mapped[str | None] = words(
        4096, least=1, comment="What it is registered by: a path, an address, a key"
    )
    name: Mapped[str] = words(255, least=1, comment="The file's name")
    title: Mapped[str | None] = words(1000, comment="As the document itself says")
    source: Mapped[str | None] = words(255, comment="Where it came from: an upload, a repository, an address")
    source_url: Mapped[str | None] = column()
    file_path: Mapped[str | None] = column(comment="Where the file stands in storage")
    file_size: Mapped[int | None] = column(BigInteger, check="{0} >= 0", comment="Bytes")
    mime_type: Mapped[str | None] = words(100, comment="The file's type, as its content shows")
    language: Mapped[str] = words(
        63, least=1, default="english", comment="The text search configuration that its words are reduced by"
    )
    content_hash: Mapped[bytes | None] = column(LargeBinary, check=_SHA256, comment="SHA-256 of the file last parsed")
    status: Mapped[str] = one_of("pending", "processing", "completed", "failed", default="pending")
    error_message: Mapped[str | None] = column()
    current_version: Mapped[int] = column(default="0", check="{0} >= 0", comment="The version that readers see")
    next_version: Mapped[int] = column(default="0", comment="The last version that an ingest was given")
    chunk_count: Mapped[int] = column(default="0", check="{0} >= 0", comment="Of the current version")
    page_count: Mapped[int | None] = column(check="{0} > 0")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
    email_id: Mapped[UUID | None] = reference("mail.emails", comment="The mail whose body it is: it goes with it")
    attachment_id: Mapped[UUID | None] = reference(
        "mail.attachments", comment="The file of a mail that it is: it goes with it"
    )
    uploaded_by: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")
    uploaded_at: Mapped[datetime] = column(default="now()", comment="When the file was last registered")
    completed_at: Mapped[datetime | None] = column()


class DocumentText(Created, Base):
    """The normalised text of a document's version, and the blocks that it is made of."""

    __tablename__ = "document_texts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["document_id", "tenant_id"],
            ["knowledge.documents.id", "knowledge.documents.tenant_id"],
            ondelete="CASCADE",
        ),
        Index(None, "file_path"),
        Index("document_texts_file_key_idx", "file_path"),  # COLLATE "C"
    )

    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = column(check="{0} > 0", primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(comment="The document's")
    file_path: Mapped[str] = column(comment="The stored file that it was made of")
    text: Mapped[str] = column()
    blocks: Mapped[JsonList] = column(
        comment="Headings, paragraphs, tables: their kinds, pages and offsets in the text"
    )


class Chunk(Keyed, Created, Base):
    """A piece of a document's version, found as a whole. Its vectors live in spaces, which say the model."""

    __tablename__ = "chunks"
    __table_args__ = (
        CheckConstraint("end_offset > start_offset", name=conv("chunks_check")),
        CheckConstraint("is_curated OR source_chunk_ids IS NULL", name="sources"),
        UniqueConstraint("document_id", "version", "chunk_index"),
        ForeignKeyConstraint(
            ["document_id", "tenant_id"],
            ["knowledge.documents.id", "knowledge.documents.tenant_id"],
            ondelete="CASCADE",
        ),
        Index("chunks_text_hash_idx", "tenant_id", "text_hash"),
        Index("chunks_curated_idx", "tenant_id", postgresql_where=text("is_curated")),
        Index(
            "chunks_due_idx",
            "persona_id",
            "id",
            postgresql_where=text("curated_at IS NULL AND NOT is_curated AND persona_id IS NOT NULL"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(sort_order=-20, info={"is_tenant": True}, comment="The document's")
    document_id: Mapped[UUID] = mapped_column()
    collection_id: Mapped[UUID | None] = reference("knowledge.collections", comment="The document's")
    persona_id: Mapped[UUID | None] = reference("assistants.personas", comment="The document's")
    version: Mapped[int] = column(check="{0} > 0", comment="The document's version that it belongs to")
    chunk_index: Mapped[int] = column(check="{0} >= 0", comment="Its place in the version")
    header: Mapped[str] = words(
        2000, default="", comment="Title and section above it: embedded and searched with the text"
    )
    text: Mapped[str] = column(check="{0} <> ''")
    text_hash: Mapped[bytes] = column(LargeBinary, check=_SHA256, comment="SHA-256 of what is embedded")
    token_count: Mapped[int | None] = column(check="{0} > 0", comment="Tokens of cl100k_base")
    page: Mapped[int | None] = column(check="{0} > 0")
    section: Mapped[str | None] = column()
    start_offset: Mapped[int] = column(check="{0} >= 0", comment="Characters into the version's text")
    end_offset: Mapped[int] = column(comment="Characters into the version's text, exclusive")
    is_curated: Mapped[bool] = column(default="false", comment="A summary of other chunks")
    source_chunk_ids: Mapped[list[UUID] | None] = column(comment="The chunks that a curated one sums up")
    curated_at: Mapped[datetime | None] = column(
        comment="When curation considered it; NULL: it is due, where it is a persona's and no summary"
    )
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
