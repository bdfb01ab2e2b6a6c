"""What tenants use, what they may use and what it costs them: plans, quotas, metrics, bills (004)."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Index, Numeric, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    SLUG,
    Base,
    Json,
    JsonList,
    Keyed,
    Tenanted,
    Touched,
    amount,
    column,
    one_of,
    reference,
    words,
)

_CURRENCY = "{0} ~ '^[A-Z]{{3}}$'"


class SubscriptionPlan(Keyed, Touched, Base):
    """What tenants may subscribe to: a price and what it includes. Belongs to no tenant."""

    __tablename__ = "subscription_plans"
    __table_args__ = (UniqueConstraint("code"),)

    code: Mapped[str] = column(check=SLUG, comment="What identity.tenants.plan_type says")
    name: Mapped[str] = words(255, least=1)
    description: Mapped[str | None] = column()
    price: Mapped[Decimal] = amount(Numeric(12, 2), default="0", comment="For one period")
    currency: Mapped[str] = column(default="'USD'", check=_CURRENCY, comment="ISO 4217")
    billing_period: Mapped[str] = one_of("month", "year", default="month")
    included_limits: Mapped[Json] = column(
        default="'{}'", check="jsonb_typeof({0}) = 'object'", comment="By metric type, what a period includes"
    )
    is_active: Mapped[bool] = column(default="true", comment="Whether it may be subscribed to")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class TenantQuota(Keyed, Tenanted, Touched, Base):
    """How much of a metric a tenant may use in a period, and how much it has used of the current one."""

    __tablename__ = "tenant_quotas"
    __table_args__ = (UniqueConstraint("tenant_id", "metric_type", "period"),)

    metric_type: Mapped[str] = words(100, least=1, comment="As in usage_metrics")
    limit_value: Mapped[int] = column(BigInteger, check="{0} >= 0")
    period: Mapped[str] = one_of("day", "month", "total", default="month")
    enforcement: Mapped[str] = one_of("hard", "soft", default="hard", comment="A hard one refuses, a soft one warns")
    used_value: Mapped[int] = column(
        BigInteger, default="0", check="{0} >= 0", comment="Of the current period, as last counted"
    )
    used_since: Mapped[datetime | None] = column(comment="When the period of used_value began")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class UsageMetric(Tenanted, Base):
    """How much of something a tenant used in a period, written once. Outlives the agent and the user it names."""

    __tablename__ = "usage_metrics"
    __table_args__ = (
        Index("usage_metrics_metric_type_idx", "tenant_id", "metric_type", "period_start"),
        Index("usage_metrics_period_idx", "tenant_id", "period_start", "period_end"),
        Index("usage_metrics_recorded_at_idx", "tenant_id", text("recorded_at DESC")),
        Index(None, "agent_id", "recorded_at"),
        {"postgresql_partition_by": "RANGE (period_start)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)
    metric_type: Mapped[str] = words(100, least=1, comment="api_calls, tokens, agent_executions and the like")
    metric_value: Mapped[int] = column(BigInteger, check="{0} >= 0", comment="A count of what metric_type names")
    cost: Mapped[Decimal | None] = amount(Numeric(14, 6), comment="USD")
    agent_id: Mapped[UUID | None] = reference("assistants.agents", on_delete="SET NULL")
    user_id: Mapped[UUID | None] = reference("identity.users", on_delete="SET NULL")
    period_start: Mapped[datetime] = column(primary_key=True)
    period_end: Mapped[datetime] = column(check="{0} > period_start")
    recorded_at: Mapped[datetime] = column(default="now()")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")


class BillingRecord(Keyed, Tenanted, Touched, Base):
    """What a tenant owes for a period."""

    __tablename__ = "billing_records"
    __table_args__ = (
        UniqueConstraint("tenant_id", "period_start"),
        Index("billing_records_status_idx", "tenant_id", "status"),
    )

    plan_id: Mapped[UUID | None] = reference("billing.subscription_plans", shared=True, on_delete="RESTRICT")
    period_start: Mapped[datetime] = column()
    period_end: Mapped[datetime] = column(check="{0} > period_start")
    amount: Mapped[Decimal] = amount(Numeric(12, 2), default="0", comment="The sum of its items")
    currency: Mapped[str] = column(default="'USD'", check=_CURRENCY, comment="ISO 4217")
    status: Mapped[str] = one_of("draft", "open", "paid", "void", default="draft")
    line_items: Mapped[JsonList] = column(
        default="'[]'",
        check="jsonb_typeof({0}) = 'array'",
        comment="Description, metric type, quantity, amount of each",
    )
    issued_at: Mapped[datetime | None] = column(check="status NOT IN ('open', 'paid') OR {0} IS NOT NULL")
    due_at: Mapped[datetime | None] = column(check="{0} >= issued_at")
    paid_at: Mapped[datetime | None] = column(check="({0} IS NOT NULL) = (status = 'paid')")
    meta: Mapped[Json] = column(name="metadata", default="'{}'")
