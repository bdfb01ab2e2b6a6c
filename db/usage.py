"""What tenants use, as it is used. Over `sql/usage.sql`; months of `billing.usage_metrics` are retention's business."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("usage")


def record(
    connection: Connection,
    tenant_id: UUID,
    metric_type: str,
    value: int,
    *,
    cost: Decimal | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write down that a tenant used so much of something just now; `cost` in USD, None where it is not known.

    In the transaction of whatever it was used for, bound to the tenant: it counts once, or not at all.
    """
    values = {
        "tenant_id": tenant_id,
        "metric_type": metric_type,
        "value": value,
        "cost": cost,
        "metadata": Jsonb(dict(metadata or {})),
    }
    QUERIES.run(connection, "record_usage", values)
