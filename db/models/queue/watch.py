"""What relays tell of the queue: counts by minutes, how queues stood, what is wrong."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double, Index, text
from sqlalchemy.orm import Mapped
from sqlalchemy.schema import conv

from db.models.base import Base, Json, Keyed, amount, column, one_of, words


class Chore(Base):
    """What one relay does for all of them, and up to when it is done; whoever holds the row does it."""

    __tablename__ = "chores"

    name: Mapped[str] = one_of("statistics", "alerts", primary_key=True)
    reached_at: Mapped[datetime] = column()


class Statistic(Base):
    """What ended in a minute, by queue and task type."""

    __tablename__ = "statistics"
    __table_args__ = (CheckConstraint("runs BETWEEN 0 AND done + failed + cancelled", name=conv("statistics_check")),)

    minute: Mapped[datetime] = column(primary_key=True)
    queue: Mapped[str] = column(primary_key=True)
    task_type: Mapped[str] = column(primary_key=True)
    done: Mapped[int] = column(check="{0} >= 0")
    failed: Mapped[int] = column(check="{0} >= 0")
    cancelled: Mapped[int] = column(check="{0} >= 0")
    runs: Mapped[int] = column(comment="The ended tasks that had started")
    run_seconds: Mapped[float] = amount(Double, comment="Of the runs, like the other seconds")
    run_seconds_max: Mapped[float] = amount(Double)
    wait_seconds: Mapped[float] = amount(Double)
    wait_seconds_max: Mapped[float] = amount(Double)
    retried: Mapped[int] = column(check="{0} >= 0", comment="Attempts that ended without ending their task")
    snoozed: Mapped[int] = column(check="{0} >= 0")
    lost: Mapped[int] = column(check="{0} >= 0")
    handed_back: Mapped[int] = column(check="{0} >= 0")


class Gauge(Base):
    """How a queue stood at the beginning of a minute."""

    __tablename__ = "gauges"

    minute: Mapped[datetime] = column(primary_key=True)
    queue: Mapped[str] = column(primary_key=True)
    waiting: Mapped[int] = column(check="{0} >= 0")
    running: Mapped[int] = column(check="{0} >= 0")
    oldest_seconds: Mapped[float] = amount(Double, comment="How long the oldest due task waits")


class Alert(Keyed, Base):
    """What is wrong, or was: one raised row a key, and how far it has been told."""

    __tablename__ = "alerts"
    __table_args__ = (
        CheckConstraint("(state = 'resolved') = (resolved_at IS NOT NULL)", name=conv("resolved_says_when")),
        CheckConstraint("(notified_state IS NULL) = (notified_at IS NULL)", name=conv("notified_says_when")),
        CheckConstraint("notified_state IS DISTINCT FROM 'resolved' OR state = 'resolved'", name=conv("told_in_order")),
        Index("alerts_raised_key", "key", unique=True, postgresql_where=text("state = 'raised'")),
        Index("alerts_resolved_at_idx", "resolved_at", postgresql_where=text("state = 'resolved'")),
        Index("alerts_next_try_at_idx", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
    )

    kind: Mapped[str] = one_of("final_failures", "stalled_queue", "dead_loop", "silent_process", "missing_month")
    key: Mapped[str] = words(300, least=1)
    state: Mapped[str] = one_of("raised", "resolved", default="raised")
    facts: Mapped[Json] = column(
        check="jsonb_typeof({0}) = 'object' AND pg_column_size({0}) <= 8192",
        comment="Ids, names, counts and seconds; never payloads or texts of errors",
    )
    raised_at: Mapped[datetime] = column(default="now()")
    seen_at: Mapped[datetime] = column(default="now()")
    resolved_at: Mapped[datetime | None] = column()
    notified_state: Mapped[str | None] = one_of("raised", "resolved")
    notified_at: Mapped[datetime | None] = column()
    next_try_at: Mapped[datetime | None] = column(default="now()", comment="None where there is nothing to tell")
    tries: Mapped[int] = column(default="0", check="{0} >= 0")
