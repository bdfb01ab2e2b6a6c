"""Limits of concurrency and rate, by queue, task type, tenant and key."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Double
from sqlalchemy.orm import Mapped
from sqlalchemy.schema import conv

from db.models.base import Base, Touched, column, one_of, words

_KINDS = ("queue", "task_type", "tenant", "key")


class Limit(Touched, Base):
    """A limit on one queue, task type, tenant or key, or on each of them by itself (`*`); a pause is one too."""

    __tablename__ = "limits"
    __table_args__ = (
        CheckConstraint("num_nulls(rate, rate_seconds, burst) IN (0, 3)", name=conv("rate_is_whole")),
        CheckConstraint("num_nonnulls(concurrency, rate, paused_until) > 0", name=conv("limit_limits")),
        CheckConstraint("paused_until IS NULL OR name <> '*'", name=conv("one_is_paused")),
        CheckConstraint(
            "kind <> 'tenant' OR name = '*' OR name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
            name=conv("tenant_is_an_id"),
        ),
        {"postgresql_with": {"fillfactor": 50}},
    )

    kind: Mapped[str] = one_of(*_KINDS, primary_key=True)
    name: Mapped[str] = words(200, least=1, primary_key=True)
    concurrency: Mapped[int | None] = column(check="{0} >= 1", comment="Tasks claimed or in progress at once")
    rate: Mapped[float | None] = column(
        Double, check="{0} > 0 AND {0} <= 1000000", comment="Claims in each rate_seconds"
    )
    rate_seconds: Mapped[float | None] = column(Double, check="{0} > 0 AND {0} <= 31536000")
    burst: Mapped[int | None] = column(check="{0} >= 1", comment="Claims that may come at once after a rest")
    paused_until: Mapped[datetime | None] = column(comment="A provider has refused: nothing is claimed before")


class LimitToken(Base):
    """The bucket of tokens of what a rate holds for; one that is not here is full."""

    __tablename__ = "limit_tokens"
    __table_args__ = (
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0.02,
                "autovacuum_vacuum_threshold": 500,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    kind: Mapped[str] = one_of(*_KINDS, primary_key=True)
    name: Mapped[str] = words(200, least=1, primary_key=True)
    tokens: Mapped[float] = column(Double, check="{0} > '-Infinity' AND {0} < 'Infinity'")
    refilled_at: Mapped[datetime] = column()
