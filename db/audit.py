"""The audit: what was done to what, one event for each thing that a deed touched, in the deed's own transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("audit")

Category = Literal["action", "access", "error", "system"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing that a deed touched; `tenant_id` is None for what belongs to no tenant, such as a queue."""

    kind: str
    id: UUID | str
    tenant_id: UUID | None = None


def record(
    connection: Connection,
    event_type: str,
    description: str,
    *resources: Resource,
    category: Category = "action",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an event for each of the resources. Postgres notes who did it and when: the login, whom it acts for, now.

    `metadata` holds keys, counts and durations, and never what was asked, said or sent.
    """
    values = {
        "event_type": event_type,
        "category": category,
        "description": description,
        "kinds": [resource.kind for resource in resources],
        "ids": [str(resource.id) for resource in resources],
        "tenants": [resource.tenant_id for resource in resources],
        "metadata": Jsonb(dict(metadata or {})),
    }
    QUERIES.run(connection, "record", values)
