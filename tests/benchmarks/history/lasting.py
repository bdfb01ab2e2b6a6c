"""What changes with time: while a transaction stays open, and under a load that goes on."""

import statistics
import time

from db.connection import Connection, connect
from pipelines.enqueue import enqueue_many
from tests.benchmarks.history.subject import Json, Parameters, Subject, Tell, summary
from tests.benchmarks.peers.adapters.greenroom import Noop
from tests.benchmarks.peers.servers import Servers

_TICK = 0.1
# Little is bounded whatever it does.
_FEW_DEAD, _FEW_BYTES = 20_000, 8 * 2**20
_GROWTH = 1.25
# History and attempts grow with what they keep: that is their purpose, not bloat.
_TABLES = """
SELECT relname::text, n_dead_tup, autovacuum_count, pg_relation_size(relid), pg_indexes_size(relid)
FROM pg_stat_user_tables
WHERE schemaname = 'queue' AND relname !~ '^(tasks_history|attempts)' ORDER BY pg_total_relation_size(relid) DESC
"""
_INDEXES = """
SELECT indexrelname::text, pg_relation_size(indexrelid) FROM pg_stat_user_indexes
WHERE schemaname = 'queue' AND relname = 'tasks_live' ORDER BY indexrelname
"""


def held(servers: Servers, parameters: Parameters, tell: Tell) -> Json:
    """Throughput in windows while a transaction with a snapshot stays open, beside windows before and after."""
    subject = Subject(servers, "held")

    def window(what: str) -> float:
        rate = subject.rate(parameters.tasks)
        tell(f"{what}: {rate:,.0f} tasks/s")
        return rate

    window("to warm up")
    before = [window("before") for _ in range(parameters.rounds)]
    during: list[Json] = []
    with connect(subject.url, name="held open") as connection, connection.transaction():
        # A snapshot and no lock on any table: the plain case of a report or a dump that somebody forgot.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_snapshot()")
        begun = time.monotonic()
        while (age := time.monotonic() - begun) < parameters.held or not during:
            rate = window(f"open for {age:.0f} s")
            dead = _dead(subject)
            during.append({"open_seconds": round(age), "tasks_per_second": round(rate), "dead_tuples": dead})
    after = [window("after") for _ in range(parameters.rounds)]
    usual = statistics.median(before)
    return {
        "before": summary(before),
        "open": during,
        "after": summary(after),
        "ratio_of_median": round(statistics.median(at["tasks_per_second"] for at in during) / usual, 3),
        "ratio_of_last_third": round(_mean([at["tasks_per_second"] for at in _last_third(during)]) / usual, 3),
        "ratio_of_lowest": round(min(at["tasks_per_second"] for at in during) / usual, 3),
    }


def steady(servers: Servers, parameters: Parameters, tell: Tell) -> Json:
    """Dead tuples and sizes each minute under a load that the engines keep up with; autovacuum as it comes."""
    subject = Subject(servers, "steady")
    samples: list[Json] = []
    with subject.connect() as producer, subject.connect() as watcher, subject.working() as check:
        begun = time.monotonic()
        next_sample, enqueued = begun + parameters.sample, 0
        while (now := time.monotonic()) < begun + parameters.steady:
            wanted = int((now - begun) * parameters.rate) - enqueued
            enqueued += len(enqueue_many(producer, [Noop(n=n) for n in range(wanted)])) if wanted else 0
            if now >= next_sample:
                check()
                next_sample += parameters.sample
                samples.append({"seconds": round(now - begun), "enqueued": enqueued} | _sample(watcher))
                live = samples[-1]["tables"]["tasks_live"]
                tell(f"{samples[-1]['seconds']} s: {samples[-1]['live_tasks']} live tasks, tasks_live {live}")
            time.sleep(_TICK)
    return {"rate": parameters.rate, "enqueued": enqueued, "bounded": _bounds(samples), "samples": samples}


def _sample(connection: Connection) -> Json:
    [(live,)] = connection.execute("SELECT count(*) FROM queue.tasks_live").fetchall()
    names = ("dead_tuples", "autovacuums", "table_bytes", "index_bytes")
    tables = {name: dict(zip(names, row, strict=True)) for name, *row in connection.execute(_TABLES).fetchall()}
    return {"live_tasks": live, "tables": tables, "indexes": dict(connection.execute(_INDEXES).fetchall())}


def _bounds(samples: list[Json]) -> Json:
    """Say of each table and index whether its second half stayed within a quarter above its first, or is small."""
    bounds: Json = {}
    for table in samples[-1]["tables"] if samples else ():
        for what, few in (("dead_tuples", _FEW_DEAD), ("table_bytes", _FEW_BYTES), ("index_bytes", _FEW_BYTES)):
            bounds[f"{table} {what}"] = _bound([sample["tables"][table][what] for sample in samples], few)
    for index in samples[-1]["indexes"] if samples else ():
        bounds[index] = _bound([sample["indexes"][index] for sample in samples], _FEW_BYTES)
    return {"all": all(bound["is_bounded"] for bound in bounds.values()), "each": bounds}


def _bound(values: list[int], few: int) -> Json:
    half = max(1, len(values) // 2)
    first, second = max(values[:half]), max(values[half:] or values)
    return {"first_half": first, "second_half": second, "is_bounded": second <= max(few, first * _GROWTH)}


def _dead(subject: Subject) -> int:
    with subject.connect() as connection:
        query = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'queue' AND relname = 'tasks_live'"
        [(dead,)] = connection.execute(query).fetchall()
    return int(dead)


def _last_third(values: list[Json]) -> list[Json]:
    return values[-max(1, len(values) // 3) :]


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)
