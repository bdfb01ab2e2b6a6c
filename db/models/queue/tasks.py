"""Tasks (001's outbox and 003's jobs), their attempts, what they wait for, and what belongs together.

What ties a task's columns together is checked on the leaf where it can be broken, tasks_live or tasks_history; their
indexes, like their CHECKs, stand in the migrations alone.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, SmallInteger, text
from sqlalchemy.orm import Mapped
from sqlalchemy.schema import conv

from db.models.base import Base, Json, Keyed, column, one_of, words
from db.models.queue.domains import (
    ATTEMPT_LIMIT,
    DUE_AT,
    KEY_TEXT,
    LARGE_JSON,
    LIMIT_KEY,
    PRIORITY,
    SHARE,
    SHORT_NAME,
    SMALL_JSON,
    TEXT_50,
    TEXT_512,
    TEXT_1000,
    TEXT_2000,
    TEXT_10000,
    TEXT_20000,
    WHOLE_NUMBER,
)


class OutboxTask(Base):
    """A task, in whatever status: live ones stand in tasks_live, ended ones in tasks_history by months."""

    __tablename__ = "outbox_tasks"
    __table_args__ = (
        CheckConstraint("claimed_until IS NULL OR batch_size IS NOT NULL", name=conv("occupied_has_size")),
        {"postgresql_partition_by": "LIST (status)"},
    )

    id: Mapped[UUID] = column(default="ops.uuid_v7()", comment="Unique among live tasks, and never given twice")
    task_type: Mapped[str] = column(SHORT_NAME)
    payload: Mapped[Json] = column(LARGE_JSON)
    payload_version: Mapped[int | None] = column(SmallInteger, comment="Of the schema that the payload was checked by")
    status: Mapped[str] = column(default="'pending'", comment="pending, in_progress, done, failed or cancelled")
    attempts: Mapped[int] = column(WHOLE_NUMBER, default="0")
    last_error: Mapped[str | None] = column(TEXT_20000)
    run_after: Mapped[datetime] = column(DUE_AT, default="now()")
    completed_at: Mapped[datetime | None] = column(comment="When it ended, in whatever way")
    created_at: Mapped[datetime] = column(default="now()")
    updated_at: Mapped[datetime] = column(default="now()")
    tenant_id: Mapped[UUID | None] = column(comment="None: a task across tenants")
    owner_kind: Mapped[str | None] = column(TEXT_50, comment="What the task is for, such as a document")
    owner_id: Mapped[UUID | None] = column()
    meta: Mapped[Json] = column(SMALL_JSON, name="metadata", default="'{}'")
    trace_context: Mapped[str | None] = column(TEXT_512)
    queue: Mapped[str] = column(SHORT_NAME)
    priority: Mapped[int] = column(PRIORITY, comment="Each step is worth a minute of waiting")
    rank: Mapped[int] = column(
        BigInteger,
        default="(extract(epoch FROM now()) * 1000000)::bigint",
        comment="What the claim orders by: microseconds of the due time, less the priority",
    )
    is_due: Mapped[bool] = column(default="true")
    is_waiting: Mapped[bool] = column(default="false", comment="For other tasks to end")
    is_watched: Mapped[bool] = column(default="false", comment="Others wait for its end, or its batch counts it")
    hold_reason: Mapped[str | None] = column(TEXT_2000, comment="Why it is not claimed, though due")
    unique_key: Mapped[str | None] = column(KEY_TEXT, comment="Unique among the tenant's live tasks of a slot")
    unique_slot: Mapped[int] = column(SmallInteger, default="0", comment="A key's running task and the one behind it")
    limit_key: Mapped[str | None] = column(LIMIT_KEY, comment="What a limit goes by, such as a provider")
    batch_id: Mapped[UUID | None] = column()
    left_open: Mapped[list[str] | None] = column(comment="What the type is to say once it is published")
    max_attempts: Mapped[int] = column(ATTEMPT_LIMIT)
    snoozes: Mapped[int] = column(WHOLE_NUMBER, default="0")
    claim_number: Mapped[int] = column(default="0")
    claimed_until: Mapped[datetime | None] = column(comment="Set while the task occupies a part of a slot")
    batch_size: Mapped[int | None] = column(
        SmallInteger, check="{0} BETWEEN 1 AND 1000", comment="Of how many tasks its message may hold"
    )
    lease_until: Mapped[datetime | None] = column()
    deadline_at: Mapped[datetime | None] = column()
    worker_id: Mapped[UUID | None] = column(comment="The process that holds it")
    cancel_requested_at: Mapped[datetime | None] = column()
    cancel_reason: Mapped[str | None] = column(TEXT_10000)
    started_at: Mapped[datetime | None] = column()
    failed_at: Mapped[datetime | None] = column()
    progress: Mapped[float | None] = column(SHARE, comment="From 0 to 1")
    progress_message: Mapped[str | None] = column(TEXT_1000)
    result: Mapped[Json | None] = column(LARGE_JSON)

    # A key of the table would have to hold the status.
    __mapper_args__ = {"primary_key": [id]}  # noqa: RUF012 - SQLAlchemy reads it so


class Attempt(Base):
    """An attempt that did not end its task as done, or whose handler logged something."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index(None, "task_id"),
        Index(None, "ended_at"),
        {"postgresql_partition_by": "RANGE (ended_at)"},
    )

    task_id: Mapped[UUID] = column()
    tenant_id: Mapped[UUID | None] = column()
    claim_number: Mapped[int] = column()
    number: Mapped[int] = column(comment="The how-manieth attempt of its task")
    outcome: Mapped[str] = one_of("done", "retry", "snooze", "fail", "cancel", "lost", "handed_back")
    error: Mapped[str | None] = words(20000)
    traceback: Mapped[str | None] = words(50000)
    log: Mapped[str | None] = words(20000)
    worker_id: Mapped[UUID | None] = column()
    started_at: Mapped[datetime | None] = column()
    ended_at: Mapped[datetime] = column(default="now()")

    __mapper_args__ = {"primary_key": [task_id, claim_number, ended_at]}  # noqa: RUF012 - SQLAlchemy reads it so


class TaskDependency(Base):
    """One task waits for another; written with the child and never after, so there is no circle."""

    __tablename__ = "task_dependencies"
    __table_args__ = (
        CheckConstraint("child_id <> parent_id", name=conv("nothing_waits_for_itself")),
        Index(None, "parent_id"),
        {"postgresql_with": {"fillfactor": 80}},
    )

    child_id: Mapped[UUID] = column(primary_key=True)
    parent_id: Mapped[UUID] = column(primary_key=True)
    tenant_id: Mapped[UUID | None] = column()
    on_parent_failed: Mapped[str] = one_of("fail", "cancel", "run")
    parent_status: Mapped[str | None] = one_of(
        "done", "failed", "cancelled", "unknown", comment="How the parent ended; unknown: its history was gone"
    )


class Batch(Keyed, Base):
    """Tasks that belong together, and the tasks that are enqueued at its end."""

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(
            "ended_at IS NULL OR (closed_at IS NOT NULL AND done + failed + cancelled = added)",
            name=conv("ended_is_closed"),
        ),
        Index(None, "tenant_id"),
        {"postgresql_with": {"fillfactor": 70}},
    )

    tenant_id: Mapped[UUID | None] = column()
    name: Mapped[str] = words(200, least=1)
    on_done: Mapped[Json | None] = column(check="pg_column_size({0}) <= 1048576", comment="Type and payload of a task")
    on_failed: Mapped[Json | None] = column(check="pg_column_size({0}) <= 1048576")
    on_ended: Mapped[Json | None] = column(check="pg_column_size({0}) <= 1048576")
    on_done_task_id: Mapped[UUID | None] = column()
    on_failed_task_id: Mapped[UUID | None] = column()
    on_ended_task_id: Mapped[UUID | None] = column()
    added: Mapped[int] = column(default="0", comment="Follows the members within moments, like the other counts")
    done: Mapped[int] = column(default="0")
    failed: Mapped[int] = column(default="0")
    cancelled: Mapped[int] = column(default="0")
    created_at: Mapped[datetime] = column(default="now()")
    closed_at: Mapped[datetime | None] = column(comment="Nothing is added any more")
    ended_at: Mapped[datetime | None] = column()


class Settlement(Base):
    """What a relay has to look after: a watched end, an addition to a batch, its closing. It lives for moments."""

    __tablename__ = "settlements"
    __table_args__ = (
        Index("settlements_added_idx", "batch_id", postgresql_where=text("added > 0")),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": 0.02,
                "autovacuum_vacuum_threshold": 2000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    id: Mapped[int] = column(BigInteger, Identity(always=True), primary_key=True)
    task_id: Mapped[UUID | None] = column()
    batch_id: Mapped[UUID | None] = column()
    added: Mapped[int] = column(default="0")
