"""Enqueue: write task rows inside the producer's own transaction.

Accepts a psycopg connection or cursor, a SQLAlchemy Session or Connection. Imports neither: a producer pays for what it
already uses. Nothing is committed here; a rollback takes the tasks along.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from core.errors import InvalidOptionsError, InvalidPayloadError, UnknownTaskTypeError
from pipelines.payload import Payload


class Options(TypedDict, total=False):
    """Options of an enqueue; what is left out follows the task type.

    `queue` · `priority` (-100 to 100, each step is worth a minute of waiting) · `run_after` (aware datetime) ·
    `unique_key` (at most one live task of that key in the tenant; a second enqueue returns the first's id) ·
    `max_attempts` (1 to 100) · `tenant_id` · `owner_kind` and `owner_id` (what the task works for) · `metadata` (JSON).
    """

    queue: str
    priority: int
    run_after: datetime
    unique_key: str
    max_attempts: int
    tenant_id: UUID
    owner_kind: str
    owner_id: UUID
    metadata: dict[str, Any]


_SQL = (
    "SELECT queue.enqueue_many({type}, CAST({payloads} AS jsonb[]), CAST({options} AS jsonb), "
    "CAST({version} AS smallint))"
)
_NAMES = ("type", "payloads", "options", "version")
_PSYCOPG = _SQL.format(**{name: f"%({name})s" for name in _NAMES})
_SQLALCHEMY = _SQL.format(**{name: f":{name}" for name in _NAMES})


_BOUNDS = {"priority": (-100, 100), "max_attempts": (1, 100)}
_LENGTHS = {"queue": 100, "unique_key": 200, "owner_kind": 50}


def enqueue(connection: Any, payload: Payload, **options: Unpack[Options]) -> UUID:
    """Write one task in the caller's transaction and return its id.

    Raises InvalidOptionsError, UnknownTaskTypeError or InvalidPayloadError before anything is committed. With
    `unique_key`, returns the id of the live task that has the key, and waits for one that is not committed yet.
    """
    [task_id] = enqueue_many(connection, [payload], **options)
    return task_id


def enqueue_many(connection: Any, payloads: Sequence[Payload], **options: Unpack[Options]) -> list[UUID]:
    """Write tasks of one type in one statement; return their ids in the order of the payloads."""
    if not payloads:
        return []
    kind = type(payloads[0])
    if any(type(payload) is not kind for payload in payloads):
        raise InvalidPayloadError("one call enqueues tasks of one type: call enqueue_many once for each type")
    values = {
        "type": kind.task_type,
        "payloads": [_json(payload) for payload in payloads],
        "options": json.dumps(_checked(dict(options))),
        "version": kind.payload_version,
    }
    return [UUID(str(row[0])) for row in _run(connection, values)]


def enqueue_fields(connection: Any, task_type: str, fields: Mapping[str, Any], **options: Unpack[Options]) -> UUID:
    """Write one task of a type known by name only; Postgres checks the fields by the type's published schema.

    Raises as `enqueue` does.
    """
    values = {
        "type": task_type,
        "payloads": [json.dumps(fields)],
        "options": json.dumps(_checked(dict(options))),
        "version": None,
    }
    [row] = _run(connection, values)
    return UUID(str(row[0]))


async def enqueue_async(session: Any, payload: Payload, **options: Unpack[Options]) -> UUID:
    """Write one task in the transaction of a SQLAlchemy AsyncSession or AsyncConnection; see `enqueue`."""
    task_id: UUID = await session.run_sync(lambda sync: enqueue(sync, payload, **options))
    return task_id


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as JSON takes them; raises InvalidOptionsError."""
    known = sorted(Options.__annotations__)
    if unknown := sorted(set(options) - set(known)):
        raise InvalidOptionsError(f"unknown option {unknown[0]!r}; known are {', '.join(known)}")
    if ("owner_kind" in options) != ("owner_id" in options):
        raise InvalidOptionsError("owner_kind and owner_id go together")
    checked = {name: _check(name, value) for name, value in options.items()}
    if context := _trace_context():
        checked["trace_context"] = context
    return checked


def _check(name: str, value: Any) -> Any:
    match name:
        case "priority" | "max_attempts":
            return _whole(name, value)
        case "queue" | "unique_key" | "owner_kind":
            return _text(name, value)
        case "run_after":
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise InvalidOptionsError("run_after must be a datetime with a time zone")
            return value.isoformat()
        case "tenant_id" | "owner_id":
            return _uuid(name, value)
        case "metadata":
            return _json_object(name, value)
        case _:
            return value


def _whole(name: str, value: Any) -> int:
    low, high = _BOUNDS[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidOptionsError(f"{name} must be a whole number from {low} to {high}")
    return value


def _text(name: str, value: Any) -> str:
    longest = _LENGTHS[name]
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise InvalidOptionsError(f"{name} must be text of 1 to {longest} characters")
    return value


def _json(payload: Payload) -> str:
    try:
        return payload.model_dump_json()
    except ValueError as error:  # an unpaired surrogate: it has no UTF-8
        raise InvalidPayloadError(f"a payload of {payload.task_type} cannot be written as JSON") from error


def _json_object(name: str, value: Any) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidOptionsError(f"{name} must be JSON") from None
    if not isinstance(value, dict):
        raise InvalidOptionsError(f"{name} must be a JSON object")
    return value


def _uuid(name: str, value: Any) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise InvalidOptionsError(f"{name} must be a UUID") from None


def _trace_context() -> str | None:
    """Return the W3C traceparent of the caller's span, if the caller traces at all."""
    import sys

    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _run(connection: Any, values: dict[str, Any]) -> list[Any]:
    try:
        if hasattr(connection, "exec_driver_sql") or (
            hasattr(connection, "connection") and hasattr(connection, "flush")
        ):
            from sqlalchemy import text

            return list(connection.execute(text(_SQLALCHEMY), values))
        return list(connection.execute(_PSYCOPG, values).fetchall())
    except Exception as error:
        if translated := _translated(error, values["type"]):
            raise translated from None  # the driver's text may quote the row
        raise


def _translated(error: Exception, task_type: str) -> Exception | None:
    """Turn the SQLSTATEs that `queue.enqueue_many` raises into our errors."""
    driver_error: Any = getattr(error, "orig", error)
    state = getattr(driver_error, "sqlstate", None)
    text = getattr(getattr(driver_error, "diag", None), "message_primary", None) or str(driver_error)
    match state:
        case "GR001":
            return UnknownTaskTypeError(task_type)
        case "GR002":
            return InvalidPayloadError(text)
        case "GR003":
            return InvalidOptionsError(text)
        case "23514":  # check_violation: a size or length limit of the row
            constraint = getattr(getattr(driver_error, "diag", None), "constraint_name", None)
            return InvalidPayloadError(f"a limit of the task's row is exceeded: {constraint}")
        case "22P05" | "22P02" | "22021":  # what JSON and text in Postgres cannot hold: NUL, half a surrogate pair
            return InvalidPayloadError("a payload or an option holds a character that Postgres cannot store")
        case _:
            return None
