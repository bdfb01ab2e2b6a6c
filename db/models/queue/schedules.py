"""Recurring work: what is enqueued when, and each time that it was."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped

from db.models.base import IN_RANGE, Base, Json, Keyed, Touched, column, one_of, reference, words


class Schedule(Keyed, Touched, Base):
    """What is enqueued again and again, and when: by a cron expression, at an interval, or at one moment."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("name"),
        Index(None, "next_fire_at", postgresql_where=text("paused_at IS NULL AND removed_at IS NULL")),
        CheckConstraint("num_nonnulls(cron, every_seconds, at) = 1", name="one_trigger"),
        CheckConstraint("ends_at >= starts_at", name="ends_after_start"),
        CheckConstraint("(source = 'code') = (declared IS NOT NULL)", name="code_declares"),
        CheckConstraint("NOT is_edited OR source = 'code'", name="code_is_edited"),
        CheckConstraint("removed_at IS NULL OR source = 'code'", name="code_is_removed"),
    )

    name: Mapped[str] = words(100, least=1)
    tenant_id: Mapped[UUID | None] = reference(
        "identity.tenants",
        shared=True,
        comment="Whose task it is; NULL: a task across tenants, or the default tenant's",
    )
    task_type: Mapped[str] = words(100, least=1)
    payload: Mapped[Json] = column(
        default="'{}'", check="jsonb_typeof({0}) = 'object' AND pg_column_size({0}) <= 65536"
    )
    queue: Mapped[str | None] = words(100, least=1, comment="NULL: the task type's, like the priority")
    priority: Mapped[int | None] = column(SmallInteger, check="{0} >= '-100'::integer AND {0} <= 100")
    cron: Mapped[str | None] = words(
        1000, least=1, comment="Five fields, or six with seconds first, or @daily and the like, in the zone"
    )
    every_seconds: Mapped[int | None] = column(
        check="{0} >= 1 AND {0} <= 315576000", comment="From starts_at on, or from created_at"
    )
    at: Mapped[datetime | None] = column(check=IN_RANGE)
    zone: Mapped[str] = words(100, least=1, default="UTC", comment="Of the IANA database")
    gap: Mapped[str] = one_of(
        "shift",
        "skip",
        default="shift",
        comment="What becomes of a time that does not exist: it comes after the gap, or not at all",
    )
    fold: Mapped[str] = one_of(
        "first", "second", "both", default="first", comment="Which of a time that exists twice counts"
    )
    starts_at: Mapped[datetime | None] = column(check=IN_RANGE, comment="No fire before; ends_at: none after")
    ends_at: Mapped[datetime | None] = column(check=IN_RANGE)
    jitter_seconds: Mapped[float] = column(
        Double,
        default="0",
        check="{0} >= 0 AND {0} <= 86400",
        comment="Up to this much later each task is due, by chance",
    )
    missed: Mapped[str] = one_of(
        "skip",
        "once",
        "all",
        default="once",
        comment="What becomes of fires that nobody was there for: none, the last, or the last missed_limit of them",
    )
    missed_limit: Mapped[int] = column(default="10", check="{0} >= 1 AND {0} <= 1000")
    overlap: Mapped[str] = one_of(
        "allow",
        "skip",
        "wait",
        default="skip",
        comment="What becomes of a fire while a task of the schedule lives: as ever, none, or a task that waits",
    )
    paused_at: Mapped[datetime | None] = column()
    next_fire_at: Mapped[datetime | None] = column(
        default="now()",
        check=IN_RANGE,
        comment="When to look again; no later than settled_at: it was changed since; NULL: there is none any more",
    )
    last_fire_at: Mapped[datetime | None] = column(comment="The time that the last fire was for")
    settled_at: Mapped[datetime] = column(default="now()", comment="Fires are settled up to here, by Postgres' clock")
    source: Mapped[str] = one_of(
        "code", "operator", default="operator", comment="Who wants it: a task module's SCHEDULES, or an operator"
    )
    declared: Mapped[Json | None] = column(
        check="jsonb_typeof({0}) = 'object'", comment="What the code says of it, whatever an operator made of it"
    )
    is_edited: Mapped[bool] = column(
        default="false", comment="By an operator: what the code says is not taken over any more"
    )
    removed_at: Mapped[datetime | None] = column(
        comment="By an operator: it does not come back as long as the code declares it"
    )
    description: Mapped[str | None] = words(2000)


class Fire(Base):
    """A time that a schedule was to fire at, once: the task that came of it, or why none did."""

    __tablename__ = "fires"
    __table_args__ = (
        ForeignKeyConstraint(["schedule_id"], ["queue.schedules.id"], ondelete="CASCADE"),
        Index(None, "fire_at"),
        CheckConstraint("(outcome = 'enqueued') = (task_id IS NOT NULL)", name="outcome_has_task"),
        CheckConstraint("outcome <> 'refused' OR error IS NOT NULL", name="outcome_says_why"),
    )

    schedule_id: Mapped[UUID] = column(primary_key=True)
    fire_at: Mapped[datetime] = column(
        primary_key=True, comment="The nominal time, without jitter; of one by hand, when it was asked for"
    )
    fired_at: Mapped[datetime] = column(default="clock_timestamp()", comment="When it was settled, by Postgres' clock")
    outcome: Mapped[str] = one_of("enqueued", "missed", "overlapped", "refused")
    task_id: Mapped[UUID | None] = column(comment="The task that it enqueued, there or gone")
    is_manual: Mapped[bool] = column(default="false", comment="By an operator, whatever the time")
    missed_count: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="Times before it that were missed and have no row"
    )
    error: Mapped[str | None] = words(2000, comment="Why it was refused, or why its task is held")
