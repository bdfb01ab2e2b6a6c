"""Retention: policies, their runs, archives of what is aged, files that rows let go of (all designs)."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    Numeric,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Created,
    Json,
    JsonList,
    Keyed,
    Touched,
    column,
    one_of,
    reference,
    words,
)

_IDENTIFIER = "{0} ~ '^[a-z_][a-z0-9_]*$' AND length({0}) <= 63"
_ACTIONS = ("delete", "archive", "roll_up", "drop_partition")


class RetentionPolicy(Keyed, Touched, Base):
    """How long rows of a table are kept, and what happens to them then: for all, for a tenant or for a persona."""

    __tablename__ = "retention_policies"
    __table_args__ = (
        UniqueConstraint("name"),
        Index(
            "retention_policies_scope_key",
            "table_schema",
            "table_name",
            "filter",
            "tenant_id",
            "persona_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("NOT is_held"),
        ),
        CheckConstraint("persona_id IS NULL OR tenant_id IS NOT NULL", name="persona_has_tenant"),
        CheckConstraint("is_held = (hold_reason IS NOT NULL)", name="hold_reason_if_held"),
        CheckConstraint(
            "action <> 'drop_partition' OR (tenant_id IS NULL AND filter = '{}')", name="partition_is_whole"
        ),
    )

    name: Mapped[str] = words(100, least=1)
    tenant_id: Mapped[UUID | None] = reference("identity.tenants", shared=True, comment="NULL: of every tenant")
    persona_id: Mapped[UUID | None] = reference("assistants.personas", comment="NULL: of every persona")
    table_schema: Mapped[str] = column(check=_IDENTIFIER)
    table_name: Mapped[str] = column(check=_IDENTIFIER, comment="Of the catalogue: a trigger looks, as for the columns")
    age_column: Mapped[str] = column(check=_IDENTIFIER, comment="The time that a row's age counts from")
    age: Mapped[timedelta] = column(Interval, check="{0} > interval '0'", comment="Rows older than this go")
    filter: Mapped[Json] = column(
        default="'{}'",
        check="jsonb_typeof({0}) = 'object' AND pg_column_size({0}) <= 2000",
        comment="Values of columns that a row must have to go; all rows if empty",
    )
    action: Mapped[str] = one_of(
        *_ACTIONS, default="delete", comment="archive and roll_up delete then; drop_partition takes whole months"
    )
    is_enabled: Mapped[bool] = column(default="true")
    is_held: Mapped[bool] = column(default="false", comment="Legal hold: what it speaks of stays, whatever others say")
    hold_reason: Mapped[str | None] = words(2000, least=1)
    source: Mapped[str] = words(100, least=1, default="operator", comment="Who wants it: a design, an operator, a law")
    description: Mapped[str | None] = words(2000)
    cadence: Mapped[str] = one_of("hourly", "daily", "monthly", default="daily", comment="Which schedule runs it")
    most_share: Mapped[Decimal] = column(
        Numeric(4, 3),
        default="0.5",
        check="{0} > 0 AND {0} <= 1",
        comment="Of the table's rows: a run that would take more asks first; 1: never",
    )


class RetentionRun(Keyed, Created, Base):
    """One run of a policy over a table: what it looked at, what went, where to, and from where it goes on."""

    __tablename__ = "retention_runs"
    __table_args__ = (
        Index(None, "table_schema", "table_name", "started_at"),
        Index(None, "started_at"),
        Index("retention_runs_running_idx", "policy_id", postgresql_where=text("status = 'running'")),
        CheckConstraint("(status IN ('running', 'asking')) = (ended_at IS NULL)", name="status_says_when"),
        CheckConstraint("status <> 'failed' OR error_message IS NOT NULL", name="status_says_why"),
        CheckConstraint("status <> 'asking' OR num_nulls(rows_planned, rows_total) = 0", name="asking_says_what"),
    )

    policy_id: Mapped[UUID | None] = reference("ops.retention_policies", shared=True, on_delete="SET NULL")
    policy_name: Mapped[str] = words(100, least=1, comment="Kept when the policy is gone")
    tenant_id: Mapped[UUID | None] = column(comment="Whose rows it took, there or gone; NULL: of every tenant")
    task_id: Mapped[UUID | None] = column(comment="The task that ran it")
    table_schema: Mapped[str] = column(check=_IDENTIFIER)
    table_name: Mapped[str] = column(check=_IDENTIFIER)
    action: Mapped[str] = one_of(*_ACTIONS)
    status: Mapped[str] = one_of("running", "asking", "completed", "failed", "cancelled", default="running")
    cutoff: Mapped[datetime] = column(comment="Rows older than this were to go")
    resume_after: Mapped[JsonList | None] = column(comment="The key of the last row done: a killed run goes on there")
    rows_deleted: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    rows_archived: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    rows_rolled_up: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    rows_held: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0", comment="Old enough, and kept by a hold")
    byte_count: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0", comment="Bytes of the rows that went")
    partitions_dropped: Mapped[list[str]] = column(default="'{}'")
    manifest_location: Mapped[str | None] = words(2000, comment="Of the archive that it wrote")
    manifest_checksum: Mapped[str | None] = column(check="{0} ~ '^[0-9a-f]{{64}}$'", comment="SHA-256")
    schema_revision: Mapped[str | None] = words(64, comment="Of the migrations, when it ran")
    error_message: Mapped[str | None] = words(20000)
    started_at: Mapped[datetime] = column(default="now()")
    ended_at: Mapped[datetime | None] = column(check="{0} >= started_at")
    rows_planned: Mapped[int | None] = column(
        BigInteger, check="{0} >= 0", comment="That it was to take, counted at its beginning"
    )
    rows_total: Mapped[int | None] = column(
        BigInteger, check="{0} >= 0", comment="Of the table, counted at its beginning"
    )
    confirmed_at: Mapped[datetime | None] = column(
        check="{0} >= started_at", comment="When an operator let a run go on that asked"
    )
    dependents: Mapped[Json] = column(
        default="'{}'",
        check="jsonb_typeof({0}) = 'object'",
        comment="By table: rows that went along, links that were cleared",
    )


class Archive(Keyed, Created, Base):
    """One part of one month of one table in storage: what it holds, where, and how far its rows have left the table."""

    __tablename__ = "archives"
    __table_args__ = (
        UniqueConstraint("table_schema", "table_name", "month", "part"),
        CheckConstraint(
            "status = 'writing' OR num_nulls(manifest_key, manifest_sha256, since, until, verified_at) = 0",
            name="status_is_whole",
        ),
        CheckConstraint("status NOT IN ('writing', 'verified') OR emptied_at IS NULL", name="status_says_when"),
        CheckConstraint("status <> 'emptied' OR emptied_at IS NOT NULL", name="emptied_says_when"),
        Index("archives_writing_idx", "id", postgresql_where=text("status = 'writing'")),
    )

    run_id: Mapped[UUID | None] = reference("ops.retention_runs", shared=True, on_delete="SET NULL")
    policy_name: Mapped[str] = words(100, least=1, comment="Kept when the policy is gone")
    tenant_id: Mapped[UUID | None] = column(comment="Whose rows it holds, there or gone; NULL: of every tenant")
    table_schema: Mapped[str] = column(check=_IDENTIFIER)
    table_name: Mapped[str] = column(check=_IDENTIFIER)
    month: Mapped[date] = column(
        check="EXTRACT(day FROM {0}) = 1 AND {0} >= '0002-01-01' AND {0} < '9999-01-01'",
        comment="Its first day, of the age column in UTC",
    )
    age_column: Mapped[str | None] = column(
        check=_IDENTIFIER, comment="What its month is of; NULL of one whose policy was gone when this was asked for"
    )
    part: Mapped[int] = column(check="{0} >= 1")
    status: Mapped[str] = one_of(
        "writing", "verified", "emptied", "erased", default="writing",
        comment="verified: read back and compared; emptied: deleted from the table; erased: the files are gone",
    )  # fmt: skip
    row_count: Mapped[int] = column(
        BigInteger, default="0", check="{0} >= 0", comment="Of the table itself, without what goes along"
    )
    byte_count: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0", comment="Bytes of the files")
    hash_sum: Mapped[Decimal] = column(
        Numeric(30, 0), default="0", check="{0} <> 'NaN'", comment="Sum of the hashes of its rows of the table"
    )
    files: Mapped[JsonList] = column(
        default="'[]'",
        check="jsonb_typeof({0}) = 'array'",
        comment="Key, table, kind (rows or links), rows, bytes, SHA-256 and columns of each",
    )
    manifest_key: Mapped[str | None] = words(1000, least=1)
    manifest_sha256: Mapped[str | None] = column(check="{0} ~ '^[0-9a-f]{{64}}$'")
    schema_revision: Mapped[str] = words(64, least=1, comment="Of the migrations, when it was written")
    since: Mapped[datetime | None] = column(comment="The least time of the age column in it")
    until: Mapped[datetime | None] = column(check="{0} >= since", comment="The greatest time of the age column in it")
    goes_on_at: Mapped[int | None] = column(
        BigInteger,
        check="{0} >= 0",
        comment="The block of the table that the month's next part begins at; NULL: all was looked through",
    )
    pages_emptied: Mapped[int] = column(
        default="0",
        check="{0} >= 0",
        comment="Pages of it whose rows have been deleted: a killed run goes on there",
    )
    rows_deleted: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    left_behind: Mapped[list[int]] = column(
        ARRAY(Integer),
        default="'{}'",
        comment="Rows of its first file, counted from 0, that changed or were held since, and so are not its own",
    )
    verified_at: Mapped[datetime | None] = column(check="{0} >= created_at", sort_order=95)
    emptied_at: Mapped[datetime | None] = column(check="{0} >= verified_at", sort_order=96)
    restored_until: Mapped[datetime | None] = column(
        sort_order=97, comment="Its rows were brought back: runs let the month be until then"
    )


class ArchiveSubject(Base):
    """Whom an archive speaks of: by a subject, the archives with rows of it."""

    __tablename__ = "archive_subjects"

    kind: Mapped[str] = mapped_column(
        primary_key=True,
        info={"check": "{0} IN ('tenant', 'user', 'person', 'client', 'persona', 'document')"},
    )
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    archive_id: Mapped[UUID] = mapped_column(primary_key=True, info={"references": ("ops.archives", "CASCADE", True)})
    row_count: Mapped[int] = column(
        BigInteger, check="{0} >= 1", comment="Rows that name the subject, with those that went along"
    )


class ReleasedFile(Base):
    """A stored file that a row named which is gone; it is removed unless another names it."""

    __tablename__ = "released_files"
    __table_args__ = (Index("released_files_key_idx", "tenant_id", "key_hash"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("identity.tenants.id", ondelete="CASCADE"))
    key: Mapped[str] = column(comment="Where it stands in storage")
    key_hash: Mapped[int | None] = column(BigInteger, Computed("hashtextextended(key, 0)", persisted=True))
    released_at: Mapped[datetime] = column(default="now()")
