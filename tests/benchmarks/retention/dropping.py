"""The drop of a month of history by how many rows it holds: only the statement that drops it locks others out."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from db.connection import Connection, connect
from tests.benchmarks.retention.seeding import Tell
from tests.support.database import Database
from tests.support.waiting import eventually

_SIZES = (10_000, 100_000, 1_000_000)
_WARM = 50
_MONTH = "SELECT queue.create_month('queue.tasks_history', timestamptz '2001-01-15' + make_interval(months => %s))"
_FILL = """
INSERT INTO queue.tasks_history (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts, status,
    attempts, claim_number, run_after, started_at, completed_at)
SELECT 'load.aged', jsonb_build_object('n', n), 1, identity.default_tenant_id(), 'default', 0, 5, 'done',
    1, 1, at, at, at
FROM generate_series(1, %(count)s) AS n,
    (SELECT timestamptz '2001-01-15' + make_interval(months => %(month)s)) AS month (at)
"""
_LEAF = """
SELECT leaf::text FROM ops.months() WHERE relation = 'queue.tasks_history'::regclass
    AND since <= timestamptz '2001-01-15' + make_interval(months => %(month)s)
    AND until > timestamptz '2001-01-15' + make_interval(months => %(month)s)
"""
_COUNT = """
SELECT total FROM ops.months() m, ops.count_month(m.relation, 'completed_at', m.since, m.until)
WHERE m.leaf = %s::regclass
"""
_CUT = "SELECT ops.cut_month('queue.tasks_history'::regclass, %s::regclass, false)"
_READ = "SELECT count(*) FROM queue.tasks_history WHERE id = '00000000-0000-0000-0000-000000000000'"


def drop(database: Database, tell: Tell, *, quick: bool) -> dict[str, Any]:
    """Return, by rows of a month, its bytes and medians of milliseconds.

    `count` is before and locks nobody out; `statement` takes the lock; `commit` gives it back once it is on the disk,
    and unlinks the files then; `read` is the longest of reads by id beside, which wait for the lock. Of five months
    each, in turns: a size's first is not all sizes' first.
    """
    sizes = tuple(size // 100 for size in _SIZES) if quick else _SIZES
    found: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
    with connect(database.owner_url, name="drop") as owner, connect(database.superuser_url, name="drop") as superuser:
        for month, size in enumerate([*sizes, *sizes[::-1], *sizes, *sizes[::-1], *sizes]):
            leaf = _month(owner, superuser, month, size)
            for name, value in _one(database, owner, leaf, size).items():
                found[size].setdefault(name, []).append(value)
            tell(f"a month of {size:,} rows: {', '.join(f'{name} {of[-1]:.1f}' for name, of in found[size].items())}")
    return {
        str(size): {name: round(statistics.median(values), 1) for name, values in of.items()}
        | {f"each_{name}": [round(value, 1) for value in of[name]] for name in ("statement_ms", "read_ms")}
        for size, of in found.items()
    }


def _month(owner: Connection, superuser: Connection, month: int, size: int) -> str:
    """Make a month of so many rows, on the disk, and return its name."""
    owner.execute(_MONTH, (month,))
    owner.execute(_FILL, {"count": size, "month": month})
    [(leaf,)] = owner.execute(_LEAF, {"month": month}).fetchall()
    owner.execute(f"VACUUM (ANALYZE) {leaf}".encode())
    superuser.execute("CHECKPOINT")
    return str(leaf)


def _one(database: Database, owner: Connection, leaf: str, size: int) -> dict[str, float]:
    [(size_on_disk,)] = owner.execute("SELECT pg_total_relation_size(%s::regclass)", (leaf,)).fetchall()
    counted = _milliseconds(lambda: _is(owner, _COUNT, leaf, size))
    with _reader(database.url("operator")) as reads:
        owner.execute("BEGIN")
        dropped = _milliseconds(lambda: _is(owner, _CUT, leaf, True))
        committed = _milliseconds(lambda: owner.execute("COMMIT"))
    times = {"count_ms": counted, "statement_ms": dropped, "commit_ms": committed, "read_ms": max(reads)}
    return {"bytes": float(size_on_disk)} | times


@contextmanager
def _reader(url: str) -> Iterator[list[float]]:
    """Read by id, again and again, for the block; yields the milliseconds that each read takes."""
    reads: list[float] = []
    is_over = threading.Event()

    def read() -> None:
        with connect(url, name="reader") as connection:
            while not is_over.is_set():
                reads.append(_milliseconds(lambda: connection.execute(_READ)))

    thread = threading.Thread(target=read)
    thread.start()
    eventually(lambda: len(reads) > _WARM)
    reads.clear()
    try:
        yield reads
    finally:
        is_over.set()
        thread.join()


def _is(owner: Connection, query: str, leaf: str, wanted: object) -> None:
    [(value,)] = owner.execute(query.encode(), (leaf,)).fetchall()
    assert value == wanted


def _milliseconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000
