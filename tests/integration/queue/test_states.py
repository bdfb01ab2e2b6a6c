"""The CHECKs state the machine: each row that contradicts it is refused, whoever writes it."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.database import Database

_NOW = sql.SQL("now()")
_ID = sql.SQL("gen_random_uuid()")
_LEASED = {
    "status": "in_progress", "attempts": 1, "lease_until": _NOW, "deadline_at": _NOW, "worker_id": _ID,
    "started_at": _NOW, "claimed_until": _NOW, "batch_size": 1,
}  # fmt: skip
_DONE = {"status": "done", "completed_at": _NOW, "started_at": _NOW}
_FAILED = {"status": "failed", "completed_at": _NOW, "failed_at": _NOW, "last_error": "x"}
_CANCELLED = {"status": "cancelled", "completed_at": _NOW}

GOOD: dict[str, dict[str, Any]] = {
    "pending": {},
    "claimed": {"claimed_until": _NOW, "batch_size": 1},
    "held": {"hold_reason": "because"},
    "deferred": {"is_due": False},
    "in progress": _LEASED,
    "asked to end": _LEASED | {"cancel_requested_at": _NOW, "cancel_reason": "because"},
    "done": _DONE,
    "failed": _FAILED,
    "cancelled": _CANCELLED,
}
BAD: dict[str, dict[str, Any]] = {
    "unknown status": {"status": "resting"},
    "pending with a lease": {"lease_until": _NOW},
    "pending with a deadline": {"deadline_at": _NOW},
    "pending with a worker": {"worker_id": _ID},
    "pending and completed": {"completed_at": _NOW},
    "held and claimed": {"hold_reason": "x", "claimed_until": _NOW},
    "held and running": _LEASED | {"hold_reason": "x"},
    "running without a lease": _LEASED | {"lease_until": None},
    "running without a deadline": _LEASED | {"deadline_at": None},
    "running without a worker": _LEASED | {"worker_id": None},
    "running without a start": _LEASED | {"started_at": None},
    "running without an attempt": _LEASED | {"attempts": 0},
    "running and unclaimed": _LEASED | {"claimed_until": None},
    "claimed without a size": {"claimed_until": _NOW},
    "asked to end without a reason": _LEASED | {"cancel_requested_at": _NOW},
    "a reason to end and nobody asked": _LEASED | {"cancel_reason": "because"},
    "too long a reason to end": _LEASED | {"cancel_requested_at": _NOW, "cancel_reason": "r" * 10_001},
    "running and completed": _LEASED | {"completed_at": _NOW},
    "done without an end": _DONE | {"completed_at": None},
    "done without a start": _DONE | {"started_at": None},
    "done and failed": _DONE | {"failed_at": _NOW},
    "done with a lease": _DONE | {"lease_until": _NOW},
    "done and claimed": _DONE | {"claimed_until": _NOW},
    "done and held": _DONE | {"hold_reason": "x"},
    "failed without a moment": _FAILED | {"failed_at": None},
    "failed without a reason": _FAILED | {"last_error": None},
    "failed with a lease": _FAILED | {"lease_until": _NOW},
    "cancelled without an end": {"status": "cancelled"},
    "cancelled and held": _CANCELLED | {"hold_reason": "x"},
    "negative attempts": {"attempts": -1},
    "negative snoozes": {"snoozes": -1},
    "no attempt allowed": {"max_attempts": 0},
    "too many attempts allowed": {"max_attempts": 101},
    "priority too high": {"priority": 101},
    "progress past the end": {"progress": 1.5},
    "half an owner": {"owner_kind": "document"},
    "the other half": {"owner_id": _ID},
    "no queue": {"queue": ""},
    "due before the epoch": {"run_after": "1969-12-31 23:59:59+00"},
    "due in a year of five digits": {"run_after": "12000-01-01 00:00+00"},
    "due never": {"run_after": "infinity"},
    "no type": {"task_type": ""},
    "empty unique key": {"unique_key": ""},
    "long unique key": {"unique_key": "k" * 201},
    "long error": {"last_error": "e" * 20_001},
}


def insert(database: Database, columns: dict[str, Any]) -> None:
    row = {
        "task_type": "test.noop", "payload": "{}", "payload_version": 1, "queue": "default", "priority": 0,
        "max_attempts": 5,
    } | columns  # fmt: skip
    statement = sql.SQL("INSERT INTO queue.outbox_tasks ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(v if isinstance(v, sql.Composable) else sql.Literal(v) for v in row.values()),
    )
    database.connect().execute(statement)


def test_each_good_state_is_accepted(database: Database) -> None:
    for columns in GOOD.values():
        insert(database, columns)
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == len(GOOD)


def test_each_status_has_its_partition(database: Database) -> None:
    for columns in GOOD.values():
        insert(database, columns)
    query = """SELECT DISTINCT status::text, CASE WHEN tableoid = 'queue.tasks_live'::regclass THEN 'live'
        WHEN pg_partition_root(tableoid) = 'queue.outbox_tasks'::regclass THEN 'history' END FROM queue.outbox_tasks"""
    ended = dict.fromkeys(("done", "failed", "cancelled"), "history")
    assert dict(database.rows(query)) == {"pending": "live", "in_progress": "live"} | ended


def test_each_bad_state_is_refused(database: Database) -> None:
    accepted = []
    for name, columns in BAD.items():
        try:
            insert(database, columns)
        except psycopg.errors.CheckViolation:
            continue
        accepted.append(name)
    assert accepted == []


@pytest.mark.parametrize("column", ["payload", "result", "metadata"])
def test_what_is_larger_than_its_limit_is_refused(database: Database, column: str) -> None:
    columns: dict[str, Any] = dict(_DONE) if column == "result" else {}
    # Random letters do not compress; the limit is on what is stored.
    large = database.value(
        "SELECT jsonb_build_object('x', string_agg(md5(n::text), ''))::text FROM generate_series(1, 40000) n"
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        insert(database, columns | {column: large})


def test_a_second_live_task_of_a_unique_key_is_refused_and_an_ended_one_is_not(database: Database) -> None:
    insert(database, {"unique_key": "k"})
    insert(database, _DONE | {"unique_key": "k"})
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert(database, {"unique_key": "k"})
