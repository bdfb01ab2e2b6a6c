"""What a producer enqueued, as its own transaction sees it: before the commit too."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg

from core.errors import UsageError
from db.queries import Queries
from pipelines.payload import Payload

QUERIES = Queries("testing")
P = TypeVar("P", bound=Payload)
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class EnqueuedTask(Generic[P]):
    """A task with its payload, and the options that it was enqueued with or that its type gave it."""

    id: UUID
    payload: P
    status: str
    queue: str
    priority: int
    run_after: datetime
    unique_key: str | None
    max_attempts: int
    tenant_id: UUID | None
    owner_kind: str | None
    owner_id: UUID | None
    metadata: dict[str, Any]
    limit_key: str | None


_OPTIONS = (
    "queue",
    "priority",
    "run_after",
    "unique_key",
    "max_attempts",
    "tenant_id",
    "owner_kind",
    "owner_id",
    "metadata",
    "limit_key",
)


def enqueued(connection: Any, payload_type: type[P], /) -> list[EnqueuedTask[P]]:
    """Return the tasks of a type, live or ended, in the order of their enqueueing.

    `connection` is the producer's own: a psycopg connection, or a SQLAlchemy Session or Connection.
    """
    rows = QUERIES.run(_driver(connection), "enqueued", {"task_types": [payload_type.task_type, *payload_type.aliases]})
    return [EnqueuedTask(row[0], _decoded(payload_type, row[2], row[3]), *row[4:]) for row in rows]


def assert_enqueued(
    connection: Any, payload_type: type[P], /, *, options: Mapping[str, Any] | None = None, **fields: Any
) -> list[EnqueuedTask[P]]:
    """Return the tasks of a type with these fields and options, of which there must be one at least.

    Raises AssertionError, which lists what was enqueued instead, and UsageError for a field or option that does not
    exist.
    """
    wanted = dict(options or {})
    _require_known(payload_type, fields, wanted)
    found = enqueued(connection, payload_type)
    fitting = [task for task in found if _fits(task, fields, wanted)]
    if not fitting:
        raise AssertionError(_failure(connection, payload_type, fields | wanted, found))
    return fitting


def _fits(task: EnqueuedTask[Any], fields: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    return all(getattr(task.payload, name) == value for name, value in fields.items()) and all(
        getattr(task, name) == value for name, value in options.items()
    )


def _require_known(payload_type: type[Payload], fields: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if unknown := sorted(set(fields) - set(payload_type.model_fields)):
        raise UsageError(
            f"{payload_type.__name__} has no field {unknown[0]!r}; it has {', '.join(payload_type.model_fields)}"
        )
    if unknown := sorted(set(options) - set(_OPTIONS)):
        raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")


def _failure(
    connection: Any, payload_type: type[Payload], wanted: Mapping[str, Any], found: list[EnqueuedTask[Any]]
) -> str:
    what = ", ".join(f"{name}={value!r}" for name, value in wanted.items()) or "any"
    lines = [f"no task {payload_type.task_type} was enqueued with {what}"]
    if found:
        lines.append(f"{len(found)} of that type:")
        lines += [f"  {task.payload!r} {_options_of(task)}" for task in found[:_SHOWN]]
    else:
        others = [row[1] for row in QUERIES.run(_driver(connection), "enqueued", {"task_types": None})]
        counts = ", ".join(f"{others.count(name)} × {name}" for name in dict.fromkeys(others))
        lines.append(f"enqueued were: {counts or 'no tasks at all'}")
    return "\n".join(lines)


def _options_of(task: EnqueuedTask[Any]) -> str:
    return " ".join(f"{name}={value}" for name in _OPTIONS if (value := getattr(task, name)) not in (None, {}))


def _decoded(payload_type: type[P], fields: dict[str, Any], version: int) -> P:
    return payload_type.model_validate(
        fields if version >= payload_type.payload_version else payload_type.upgrade(fields, version)
    )


def _driver(connection: Any) -> psycopg.Connection[Any]:
    """Return the psycopg connection below a Session or Connection of SQLAlchemy, in the same transaction."""
    if isinstance(connection, psycopg.Connection):
        return connection
    if hasattr(connection, "flush"):
        connection.flush()
        connection = connection.connection()
    below: psycopg.Connection[Any] = connection.connection.driver_connection
    return below
