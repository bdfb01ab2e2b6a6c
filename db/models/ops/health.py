"""What personas use and do (000), and when that is told of."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Numeric,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, MappedColumn, mapped_column

from db.models.base import (
    AMOUNT,
    Base,
    Keyed,
    Tenanted,
    Touched,
    amount,
    column,
    one_of,
    reference,
    words,
)

_SHARE = "{0} >= 0 AND {0} <= 100"


def _among(most: str, precision: int, comment: str | None = None) -> MappedColumn[Any]:
    """Declare an average or a percentile of measures whose greatest is `most`."""
    return column(Numeric(precision, 2), check=f"{AMOUNT} AND {{0}} <= {most}", comment=comment)


class PersonaHealthMetric(Tenanted, Base):
    """What a persona used and did since its last measure; NULL where nothing was measured."""

    __tablename__ = "persona_health_metrics"
    __table_args__ = (
        Index(None, "persona_id", "measured_at"),
        Index(None, "tenant_id", "measured_at"),
        {"postgresql_partition_by": "RANGE (measured_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    persona_id: Mapped[UUID] = reference("assistants.personas")
    cpu_percent: Mapped[Decimal | None] = column(Numeric(5, 2), check=_SHARE, comment="Of what it may use, 0 to 100")
    memory_mb: Mapped[int | None] = column(check="{0} >= 0", comment="MB, without the page cache")
    memory_percent: Mapped[Decimal | None] = column(Numeric(5, 2), check=_SHARE, comment="Of its limit, 0 to 100")
    disk_usage_gb: Mapped[Decimal | None] = amount(Numeric(10, 2), comment="GB")
    llm_calls_count: Mapped[int] = column(default="0", check="{0} >= 0", comment="Since the last measure")
    estimated_cost: Mapped[Decimal | None] = amount(Numeric(10, 4), comment="USD since the last measure")
    active_runs_count: Mapped[int] = column(default="0", check="{0} >= 0")
    measured_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=text("now()"))


class PersonaHealthHour(Keyed, Tenanted, Touched, Base):
    """A persona's measures of one hour rolled up; an hour without measures has no row."""

    __tablename__ = "persona_health_hourly"
    __table_args__ = (
        ForeignKeyConstraint(
            ["persona_id", "tenant_id"],
            ["assistants.personas.id", "assistants.personas.tenant_id"],
            ondelete="CASCADE",
        ),
        UniqueConstraint("persona_id", "hour"),  # serves the foreign key too
        Index(None, "tenant_id", "hour"),
    )

    persona_id: Mapped[UUID] = column()
    hour: Mapped[datetime] = column(check="extract(epoch FROM {0}) % 3600 = 0", comment="Its beginning, UTC")
    sample_count: Mapped[int] = column(check="{0} > 0", comment="Measures of the hour")
    cpu_percent_avg: Mapped[Decimal | None] = _among("cpu_percent_max", 5)
    cpu_percent_max: Mapped[Decimal | None] = column(Numeric(5, 2), check=_SHARE)
    cpu_percent_p95: Mapped[Decimal | None] = _among("cpu_percent_max", 5, "The 95th percentile, like every p95")
    memory_mb_avg: Mapped[Decimal | None] = _among("memory_mb_max", 12)
    memory_mb_max: Mapped[int | None] = column(check="{0} >= 0", comment="MB")
    memory_mb_p95: Mapped[Decimal | None] = _among("memory_mb_max", 12)
    memory_percent_avg: Mapped[Decimal | None] = _among("memory_percent_max", 5)
    memory_percent_max: Mapped[Decimal | None] = column(Numeric(5, 2), check=_SHARE)
    memory_percent_p95: Mapped[Decimal | None] = _among("memory_percent_max", 5)
    disk_usage_gb_avg: Mapped[Decimal | None] = _among("disk_usage_gb_max", 10)
    disk_usage_gb_max: Mapped[Decimal | None] = amount(Numeric(10, 2), comment="GB")
    disk_usage_gb_p95: Mapped[Decimal | None] = _among("disk_usage_gb_max", 10)
    llm_calls_sum: Mapped[int] = column(BigInteger, default="0", check="{0} >= 0")
    estimated_cost_sum: Mapped[Decimal | None] = amount(Numeric(14, 4), comment="USD")
    active_runs_avg: Mapped[Decimal] = _among("active_runs_max", 12)
    active_runs_max: Mapped[int] = column(comment="No less than the average, which is no less than 0")
    active_runs_p95: Mapped[Decimal] = _among("active_runs_max", 12)


class PersonaHealthState(Keyed, Tenanted, Touched, Base):
    """How far a persona's measuring is: the last counters of its processor time, what is counted, and the thresholds
    that it is over.
    """

    __tablename__ = "persona_health_states"
    __table_args__ = (
        ForeignKeyConstraint(
            ["persona_id", "tenant_id"],
            ["assistants.personas.id", "assistants.personas.tenant_id"],
            ondelete="CASCADE",
        ),
        UniqueConstraint("persona_id"),  # serves the foreign key too
        CheckConstraint("num_nulls(source, cpu_used_ns, cpu_capacity_ns) IN (0, 3)", name="counters"),
    )

    persona_id: Mapped[UUID] = column()
    measured_at: Mapped[datetime | None] = column(comment="When it was last measured; NULL: never yet")
    source: Mapped[str | None] = words(
        400, least=1, comment="The start of the container or process whose counters these are"
    )
    cpu_used_ns: Mapped[int | None] = column(
        BigInteger, check="{0} >= 0", comment="Nanoseconds of processor time that it had used, since its start"
    )
    cpu_capacity_ns: Mapped[int | None] = column(
        BigInteger, check="{0} >= 0", comment="Nanoseconds that all processors of its host had run by then"
    )
    counted_since: Mapped[datetime] = column(
        comment="Calls and costs of after this moment have been counted as far as they were there"
    )
    calls_counted: Mapped[int] = column(default="0", check="{0} >= 0", comment="Calls among them")
    costs_counted: Mapped[int] = column(default="0", check="{0} >= 0", comment="Rows with a cost among them")
    cost_counted: Mapped[Decimal] = amount(Numeric(20, 6), default="0", comment="USD, the sum of these")
    cost_carried: Mapped[Decimal] = amount(
        Numeric(20, 6), default="0", comment="USD, too little for a measure's four decimals so far"
    )
    crossed: Mapped[list[str]] = column(default="'{}'", comment="Measures that are over their threshold")


class HealthThreshold(Keyed, Tenanted, Touched, Base):
    """From when on a measure is told of, of one persona or of all of a tenant's; without a row the setting's."""

    __tablename__ = "health_thresholds"
    __table_args__ = (
        Index(
            "health_thresholds_scope_key",
            "tenant_id",
            "persona_id",
            "metric",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("clear_below <= raise_at", name="order"),
        CheckConstraint("(raise_at IS NULL) = (clear_below IS NULL)", name="both"),
    )

    persona_id: Mapped[UUID | None] = reference(
        "assistants.personas", comment="NULL: of every persona that has none of its own"
    )
    metric: Mapped[str] = one_of(
        "cpu_percent", "memory_mb", "memory_percent", "disk_usage_gb", "llm_calls_count", "estimated_cost",
        "active_runs_count", comment="As the column of ops.persona_health_metrics",
    )  # fmt: skip
    raise_at: Mapped[Decimal | None] = amount(Numeric(14, 4), comment="It is crossed from here on; NULL: never")
    clear_below: Mapped[Decimal | None] = amount(Numeric(14, 4), comment="It is over below this")
