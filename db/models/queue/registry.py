"""What there is to do and who does it: task types, queues, processes."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import CheckConstraint, Interval, SmallInteger
from sqlalchemy.orm import Mapped
from sqlalchemy.schema import conv

from db.models.base import Base, Json, Touched, column, one_of, words
from db.models.queue.domains import LIMIT_KEY


class TaskType(Base):
    """What tasks of a type default to; published by migrations and workers, read by every enqueue."""

    __tablename__ = "task_types"

    name: Mapped[str] = column(
        primary_key=True, check=r"{0} ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' AND length({0}) <= 100"
    )
    queue: Mapped[str] = words(100, least=1)
    scope: Mapped[str] = one_of("tenant", "system", comment="Of one tenant each, or across tenants")
    priority: Mapped[int] = column(SmallInteger, check="{0} BETWEEN -100 AND 100")
    max_attempts: Mapped[int] = column(SmallInteger, check="{0} BETWEEN 1 AND 100")
    batch_size: Mapped[int] = column(SmallInteger, check="{0} BETWEEN 1 AND 1000", comment="Most tasks of a message")
    time_limit: Mapped[timedelta] = column(Interval, check="{0} > interval '0'", comment="Of an attempt")
    payload_version: Mapped[int] = column(SmallInteger, check="{0} >= 1")
    payload_schema: Mapped[Json] = column(comment="JSON Schema")
    secret_fields: Mapped[list[str]] = column(default="'{}'", comment="Of the payload: nobody is shown them")
    aliases: Mapped[list[str]] = column(default="'{}'", comment="Names that it had before")
    limit_key: Mapped[str | None] = column(LIMIT_KEY, comment="What a limit goes by, such as a provider")
    updated_at: Mapped[datetime] = column(default="now()")
    pending_limit: Mapped[timedelta | None] = column(
        Interval, check="{0} > interval '0'", comment="For which a task may be pending without a sign of life"
    )


class Queue(Touched, Base):
    """A queue that an operator has spoken of: a pause, and when it ends by itself."""

    __tablename__ = "queues"
    __table_args__ = (
        CheckConstraint("resume_at IS NULL OR paused_at IS NOT NULL", name=conv("what_resumes_is_paused")),
    )

    name: Mapped[str] = words(100, least=1, primary_key=True)
    paused_at: Mapped[datetime | None] = column()
    resume_at: Mapped[datetime | None] = column(comment="When the pause ends by itself")


class Process(Base):
    """A process that serves here: what it does, and when it was last heard of."""

    __tablename__ = "processes"

    id: Mapped[UUID] = column(primary_key=True, comment="New for each start: a host's name never proves liveness")
    kind: Mapped[str] = one_of("relay", "worker", "scheduler", "watcher", "console")
    host: Mapped[str] = column()
    pid: Mapped[int] = column()
    queues: Mapped[list[str]] = column(default="'{}'")
    task_types: Mapped[Json] = column(
        default="'{}'", check="jsonb_typeof({0}) = 'object'", comment="The payload version known of each"
    )
    batch_sizes: Mapped[Json] = column(
        default="'{}'", check="jsonb_typeof({0}) = 'object'", comment="Tasks taken in one message, by type as measured"
    )
    slots: Mapped[int] = column(default="0", check="{0} >= 0")
    is_sleeping: Mapped[bool] = column(default="false")
    hears_notify: Mapped[bool | None] = column()
    loops_late: Mapped[Json] = column(default="'{}'", comment="Seconds that each loop is behind")
    started_at: Mapped[datetime] = column(default="now()")
    beat_at: Mapped[datetime] = column(default="now()")
