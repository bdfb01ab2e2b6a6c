"""Copies of the database (003, 004)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
)
from sqlalchemy.orm import Mapped

from db.models.base import (
    Base,
    Keyed,
    Touched,
    column,
    one_of,
    reference,
    words,
)


class Backup(Keyed, Touched, Base):
    """A copy of the database: a full one, or what changed since another; proven by a restore."""

    __tablename__ = "backups"
    __table_args__ = (
        Index(None, "status", "started_at"),
        Index(None, "expires_at"),
        CheckConstraint("kind = 'full' OR base_id IS NOT NULL", name="kind_has_base"),
        CheckConstraint("base_id <> id", name="base_id_is_another"),
        CheckConstraint(
            "status IN ('running', 'failed') OR num_nulls(location, byte_count, checksum, completed_at) = 0",
            name="status_is_whole",
        ),
        CheckConstraint("status <> 'failed' OR error_message IS NOT NULL", name="status_says_why"),
    )

    kind: Mapped[str] = one_of("full", "incremental")
    base_id: Mapped[UUID | None] = reference("ops.backups", on_delete="RESTRICT", comment="What an increment adds to")
    status: Mapped[str] = one_of("running", "completed", "failed", "expired", default="running")
    tier: Mapped[str] = one_of("online", "archived", default="online", comment="Archived: kept longer, read slower")
    location: Mapped[str | None] = words(2000, least=1)
    byte_count: Mapped[int | None] = column(BigInteger, check="{0} >= 0", comment="Bytes")
    checksum: Mapped[str | None] = column(check="{0} ~ '^[0-9a-f]{{64}}$'", comment="SHA-256")
    schema_revision: Mapped[str] = words(64, least=1, comment="Of the migrations")
    server_version: Mapped[str | None] = words(64)
    wal_start: Mapped[str | None] = column(check="{0} ~ '^[0-9A-F]{{1,8}}/[0-9A-F]{{1,8}}$'", comment="LSN")
    wal_end: Mapped[str | None] = column(
        check="{0} ~ '^[0-9A-F]{{1,8}}/[0-9A-F]{{1,8}}$'", comment="LSN; archived WAL goes on from here"
    )
    started_at: Mapped[datetime] = column(default="now()")
    completed_at: Mapped[datetime | None] = column(check="{0} >= started_at")
    verified_at: Mapped[datetime | None] = column(check="{0} >= completed_at", comment="When a restore proved it")
    archived_at: Mapped[datetime | None] = column(check="{0} IS NULL OR tier = 'archived'")
    expires_at: Mapped[datetime | None] = column(check="{0} > started_at", comment="When it may be deleted")
    error_message: Mapped[str | None] = words(20000)
