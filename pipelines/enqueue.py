"""Enqueue: write task rows inside the producer's own transaction.

Accepts a psycopg connection or cursor, a SQLAlchemy Session or Connection. Imports neither: a producer pays for what it
already uses. Nothing is committed here; a rollback takes the tasks along.
"""

import json
from collections.abc import Sequence
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


_SQL = "SELECT queue.enqueue_many({type}, CAST({payloads} AS jsonb[]), CAST({options} AS jsonb), CAST({version} AS smallint))"
_NAMES = ("type", "payloads", "options", "version")
_PSYCOPG = _SQL.format(**{name: f"%({name})s" for name in _NAMES})
_SQLALCHEMY = _SQL.format(**{name: f":{name}" for name in _NAMES})


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
        "payloads": [payload.model_dump_json() for payload in payloads],
        "options": json.dumps(_checked(dict(options))),
        "version": kind.version,
    }
    return [UUID(str(row[0])) for row in _run(connection, values)]


async def enqueue_async(session: Any, payload: Payload, **options: Unpack[Options]) -> UUID:
    """Write one task in the transaction of a SQLAlchemy AsyncSession or AsyncConnection; see `enqueue`."""
    task_id: UUID = await session.run_sync(lambda sync: enqueue(sync, payload, **options))
    return task_id


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise InvalidOptionsError(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(Options.__annotations__))}")
    for name, low, high in (("priority", -100, 100), ("max_attempts", 1, 100)):
        value = options.get(name, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidOptionsError(f"{name} must be a whole number from {low} to {high}")
    for name, longest in (("queue", 100), ("unique_key", 200), ("owner_kind", 50)):
        if name in options and not (isinstance(options[name], str) and 1 <= len(options[name]) <= longest):
            raise InvalidOptionsError(f"{name} must be text of 1 to {longest} characters")
    if ("owner_kind" in options) != ("owner_id" in options):
        raise InvalidOptionsError("owner_kind and owner_id go together")
    if "run_after" in options:
        moment = options["run_after"]
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise InvalidOptionsError("run_after must be a datetime with a time zone")
        options["run_after"] = moment.isoformat()
    for name in ("tenant_id", "owner_id"):
        if name in options:
            options[name] = str(UUID(str(options[name])))
    if context := _trace_context():
        options["trace_context"] = context
    return options


def _trace_context() -> str | None:
    """Return the W3C traceparent of the caller's span, if the caller traces at all."""
    import sys  # noqa: PLC0415 - only asked for what is loaded already

    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _run(connection: Any, values: dict[str, Any]) -> list[Any]:
    try:
        if hasattr(connection, "exec_driver_sql") or hasattr(connection, "connection") and hasattr(connection, "flush"):
            from sqlalchemy import text  # noqa: PLC0415 - the caller has loaded it

            return list(connection.execute(text(_SQLALCHEMY), values))
        return list(connection.execute(_PSYCOPG, values).fetchall())
    except Exception as error:
        raise _translated(error, values["type"]) or error from error


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
        case _:
            return None
