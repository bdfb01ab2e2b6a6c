"""Enqueue: write task rows inside the producer's own transaction.

Accepts a psycopg connection or cursor, a SQLAlchemy Session or Connection. Imports neither: a producer pays for what it
already uses. Nothing is committed here; a rollback takes the tasks along.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack
from uuid import UUID

from core.errors import InvalidOptionsError, InvalidPayloadError, UnknownTaskTypeError
from pipelines.payload import Payload

if TYPE_CHECKING:
    from pipelines.keyring import KeyRing


class Options(TypedDict, total=False):
    """Options of an enqueue; what is left out follows the task type.

    `queue` · `priority` (-100 to 100, each step is worth a minute of waiting) · `run_after` (aware datetime) ·
    `max_attempts` (1 to 100) · `limit_key` (what it shares a limit with others by: docs/limits.md) · `tenant_id` ·
    `owner_kind` and `owner_id` (what the task works for) · `metadata` ·
    `unique_key` (at most one task of that key waits in the tenant), with `unique_mode` (`keep`: the live task stays,
    and its id is the answer; `replace`: a waiting one takes over what is given here; `debounce`: that, and it is due
    `debounce` after the last enqueue, but never later than `debounce_latest` after the first) ·
    `depends_on` (ids of tasks that must end first), with `on_parent_failed` (`fail`, `cancel` or `run` if one was not
    done) · `batch_id` (of `pipelines.batches.open_batch`). docs/dependencies.md says what each means.
    """

    queue: str
    priority: int
    run_after: datetime
    max_attempts: int
    limit_key: str
    tenant_id: UUID
    owner_kind: str
    owner_id: UUID
    metadata: dict[str, Any]
    unique_key: str
    unique_mode: Literal["keep", "replace", "debounce"]
    debounce: timedelta
    debounce_latest: timedelta
    depends_on: Sequence[UUID]
    on_parent_failed: Literal["fail", "cancel", "run"]
    batch_id: UUID


_ENQUEUE = "SELECT queue.enqueue_array({0}, CAST({1} AS jsonb), CAST({2} AS jsonb), CAST({3} AS smallint))"
_NAMES = ("type", "payloads", "options", "version")

_BOUNDS = {"priority": (-100, 100), "max_attempts": (1, 100)}
_LENGTHS = {"queue": 100, "unique_key": 200, "limit_key": 200, "owner_kind": 50}
_MODES = {"unique_mode": ("keep", "replace", "debounce"), "on_parent_failed": ("fail", "cancel", "run")}
_NO_OPTIONS = "{}"
# A statement's payloads, whichever is reached first: few for the server's memory, many beside its fixed cost.
_CHUNK_TASKS = 5000
_CHUNK_CHARACTERS = 4_000_000


def enqueue(connection: Any, payload: Payload, *, keyring: "KeyRing | None" = None, **options: Unpack[Options]) -> UUID:
    """Write one task in the caller's transaction and return its id; `keyring` encrypts the fields that ask for it.

    Raises InvalidOptionsError, UnknownTaskTypeError or InvalidPayloadError before anything is committed. With
    `unique_key`, returns the id of the live task that has the key, and waits for one that is not committed yet.
    """
    text = f"[{_json(payload, keyring)}]"
    [task_id] = _run(connection, payload.task_type, text, _json_of(options), payload.payload_version)
    return task_id


def enqueue_many(
    connection: Any, payloads: Iterable[Payload], *, keyring: "KeyRing | None" = None, **options: Unpack[Options]
) -> list[UUID]:
    """Write tasks of one type, all or none; return their ids in the order of the payloads.

    Of any number: an iterator is read as its payloads are written, a few thousand a statement.
    """
    rest = iter(payloads)
    head = next(rest, None)
    if head is None:
        return []
    kind, given = type(head), _json_of(options)
    chunks = _chunks(kind, chain([head], rest), keyring)
    first = next(chunks)
    second = next(chunks, None)
    if second is None:
        return _run(connection, kind.task_type, first, given, kind.payload_version)
    if "unique_key" in options:
        raise InvalidOptionsError("a unique_key names one task, not several")
    ids: list[UUID] = []
    with _one_transaction(connection):
        for chunk in chain([first, second], chunks):
            ids += _run(connection, kind.task_type, chunk, given, kind.payload_version)
    return ids


def enqueue_fields(connection: Any, task_type: str, fields: Mapping[str, Any], **options: Unpack[Options]) -> UUID:
    """Write one task of a type known by name only; Postgres checks the fields by the type's published schema.

    Raises as `enqueue` does.
    """
    [task_id] = _run(connection, task_type, f"[{json.dumps(fields)}]", _json_of(options), None)
    return task_id


async def enqueue_async(
    session: Any, payload: Payload, *, keyring: "KeyRing | None" = None, **options: Unpack[Options]
) -> UUID:
    """Write one task in the transaction of a SQLAlchemy AsyncSession or AsyncConnection; see `enqueue`."""
    task_id: UUID = await session.run_sync(lambda sync: enqueue(sync, payload, keyring=keyring, **options))
    return task_id


def _chunks(kind: type[Payload], payloads: Iterable[Payload], keyring: "KeyRing | None") -> Iterator[str]:
    """Yield JSON arrays of the payloads, each small enough for one statement."""
    texts: list[str] = []
    size = 0
    for payload in payloads:
        if type(payload) is not kind:
            raise InvalidPayloadError("one call enqueues tasks of one type: call enqueue_many once for each type")
        text = _json(payload, keyring)
        if texts and (len(texts) >= _CHUNK_TASKS or size + len(text) > _CHUNK_CHARACTERS):
            yield f"[{','.join(texts)}]"
            texts, size = [], 0
        texts.append(text)
        size += len(text)
    yield f"[{','.join(texts)}]"


def _one_transaction(connection: Any) -> AbstractContextManager[Any]:
    """Several statements are one transaction even where each would commit by itself."""
    plain = getattr(connection, "connection", connection)  # a cursor's
    if getattr(plain, "autocommit", False) is True and hasattr(plain, "transaction"):
        return plain.transaction()  # type: ignore[no-any-return]
    return nullcontext()


def _json_of(options: Options) -> str:
    """Return the options as Postgres takes them; raises InvalidOptionsError."""
    context = _trace_context()
    if not options and context is None:
        return _NO_OPTIONS
    checked = _checked(dict(options))
    if context:
        checked["trace_context"] = context
    return json.dumps(checked)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    known = sorted(Options.__annotations__)
    if unknown := sorted(set(options) - set(known)):
        raise InvalidOptionsError(f"unknown option {unknown[0]!r}; known are {', '.join(known)}")
    if ("owner_kind" in options) != ("owner_id" in options):
        raise InvalidOptionsError("owner_kind and owner_id go together")
    return dict(_check(name, value) for name, value in options.items())


def _check(name: str, value: Any) -> tuple[str, Any]:
    """Return an option by the name and in the form that Postgres knows; what options mean together is checked there."""
    check = _CHECKS[name]
    return f"{name}_seconds" if check is _seconds else name, check(name, value)


def _one_of(name: str, value: Any) -> str:
    allowed = _MODES[name]
    if value not in allowed:
        raise InvalidOptionsError(f"{name} must be one of {', '.join(allowed)}")
    return str(value)


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidOptionsError(f"{name} must be a timedelta that is not negative")
    return value.total_seconds()


def _uuids(name: str, value: Any) -> list[str]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidOptionsError(f"{name} must be a list of task ids")
    return [_uuid(name, each) for each in value]


def _whole(name: str, value: Any) -> int:
    low, high = _BOUNDS[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidOptionsError(f"{name} must be a whole number from {low} to {high}")
    return value


def _text(name: str, value: Any) -> str:
    longest = _LENGTHS[name]
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        advice = ": use a hash of what is longer" if name == "unique_key" else ""
        raise InvalidOptionsError(f"{name} must be text of 1 to {longest} characters{advice}")
    return value


def _json(payload: Payload, keyring: "KeyRing | None") -> str:
    if payload.encrypted_fields:
        return _sealed_json(payload, keyring)
    try:
        return payload.model_dump_json()
    except ValueError as error:  # an unpaired surrogate: it has no UTF-8
        raise InvalidPayloadError(f"a payload of {payload.task_type} cannot be written as JSON") from error


def _sealed_json(payload: Payload, keyring: "KeyRing | None") -> str:
    if keyring is None:
        raise InvalidOptionsError(
            f"{payload.task_type} has encrypted fields: enqueue(…, keyring=KeyRing(keys)), with the keys of the workers"
        )
    fields = payload.model_dump(mode="json")
    return json.dumps(keyring.seal(payload.task_type, payload.encrypted_fields, fields))


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


def _moment(name: str, value: Any) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidOptionsError(f"{name} must be a datetime with a time zone")
    return value.isoformat()


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "queue": _text,
    "priority": _whole,
    "run_after": _moment,
    "max_attempts": _whole,
    "tenant_id": _uuid,
    "limit_key": _text,
    "owner_kind": _text,
    "owner_id": _uuid,
    "metadata": _json_object,
    "unique_key": _text,
    "unique_mode": _one_of,
    "debounce": _seconds,
    "debounce_latest": _seconds,
    "depends_on": _uuids,
    "on_parent_failed": _one_of,
    "batch_id": _uuid,
}


def _trace_context() -> str | None:
    """Return the W3C traceparent of the caller's span, if the caller traces at all."""
    import sys

    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def call(connection: Any, statement: str, names: tuple[str, ...], values: dict[str, Any]) -> Any:
    """Run a statement of one value, its parameters in the driver's style; errors of our functions come as ours."""
    try:
        if hasattr(connection, "exec_driver_sql") or (
            hasattr(connection, "connection") and hasattr(connection, "flush")
        ):
            from sqlalchemy import text

            [row] = connection.execute(text(_sqlalchemy(statement, names)), values)
        else:
            # in binary: the text of a thousand ids takes longer to read than to make
            [row] = connection.execute(_psycopg(statement, names), values, binary=True).fetchall()
    except Exception as error:
        if translated := _translated(error, values.get("type", "")):
            raise translated from None  # the driver's text may quote the row
        raise
    return row[0]


@cache
def _psycopg(statement: str, names: tuple[str, ...]) -> str:
    return statement.format(*(f"%({name})s" for name in names))


@cache
def _sqlalchemy(statement: str, names: tuple[str, ...]) -> str:
    return statement.format(*(f":{name}" for name in names))


def _run(connection: Any, task_type: str, payloads: str, options: str, version: int | None) -> list[UUID]:
    values = {"type": task_type, "payloads": payloads, "options": options, "version": version}
    return list(call(connection, _ENQUEUE, _NAMES, values))


def _translated(error: Exception, task_type: str) -> Exception | None:
    """Turn the SQLSTATEs that `queue.enqueue_array` raises into our errors."""
    driver_error: Any = getattr(error, "orig", error)
    state = getattr(driver_error, "sqlstate", None)
    text = getattr(getattr(driver_error, "diag", None), "message_primary", None) or str(driver_error)
    match state:
        case "GR001":
            return UnknownTaskTypeError(task_type or text.rpartition(" ")[2])
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
