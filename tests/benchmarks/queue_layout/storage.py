"""Storage settings and indexes of layout A's live leaf: under a steady load, and under renewals of leases."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, Json, medians, one
from tests.benchmarks.queue_layout.building import build, drop
from tests.benchmarks.queue_layout.candidates import LAYOUTS
from tests.benchmarks.queue_layout.engine import supply_and_drain

_LEASES, _RENEWALS = 2000, 50


@dataclass(frozen=True)
class Tuning:
    """Storage settings of the live leaf, and columns whose partial index goes."""

    settings: str = "fillfactor = 100"
    unindexed: tuple[str, ...] = ()


_EAGER = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,"
    " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,"
    " autovacuum_analyze_threshold = 50000"
)
_TUNINGS = {
    "as it comes": Tuning(),
    "fillfactor 70": Tuning("fillfactor = 70"),
    "fillfactor 50": Tuning("fillfactor = 50"),
    "eager autovacuum": Tuning(_EAGER),
    "claims not indexed": Tuning(unindexed=("claimed_until",)),
    "claims, leases not indexed": Tuning(unindexed=("claimed_until", "lease_until")),
}


def measure_storage(bench: Bench) -> Json:
    """A steady load on copies of layout A's live leaf with other settings, alternating."""
    seen: dict[str, list[Json]] = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for number in range(bench.rounds):
            for name, tuning in _TUNINGS.items():
                schema = f"layout_tuning_{number}"
                drop(bench, schema)
                build(bench, LAYOUTS["A"], 0, schema, bench.partition_days)
                seen.setdefault(name, []).append(_tuned(bench, pool, schema, tuning))
                drop(bench, schema)
    return {name: medians(rounds) for name, rounds in seen.items()}


def _tuned(bench: Bench, pool: ProcessPoolExecutor, schema: str, tuning: Tuning) -> Json:
    """Load and work for a time; the rate, and what the leaf weighs after it."""
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("ALTER TABLE tasks_live SET ({})").format(sql.SQL(tuning.settings)))
        for column in tuning.unindexed:
            conn.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(f"tasks_live_{column}_idx")))
        jobs = [pool.submit(supply_and_drain, bench, LAYOUTS["A"], schema) for _ in range(bench.processes)]
        timings = [job.result() for job in jobs]
        size = one(conn, "SELECT pg_total_relation_size('tasks_live')")
    return {
        "tasks_per_second": sum(t.tasks for t in timings) / bench.seconds,
        "live_leaf_megabytes": size / 2**20,
    }


def measure_renewals(bench: Bench) -> Json:
    """Renewals of leases with the lease indexed and not, at several fill factors."""
    with bench.connect(LAYOUTS["A"].schema(full=False)) as conn:
        return {
            f"fillfactor {fill}, lease {'indexed' if indexed else 'not indexed'}": _renewals(
                conn, fill, indexed=indexed
            )
            for fill in (100, 70, 50)
            for indexed in (True, False)
        }


def _renewals(conn: Connection, fill: int, *, indexed: bool) -> Json:
    """Renew the leases of running tasks again and again; rows a second and the share of HOT."""
    conn.execute(b"CREATE TABLE renewed (LIKE tasks_live INCLUDING ALL)")
    conn.execute(sql.SQL("ALTER TABLE renewed SET (fillfactor = {})").format(fill))
    if not indexed:
        conn.execute(b"DROP INDEX renewed_lease_until_idx")
    conn.execute(
        b"INSERT INTO renewed (task_type, status, worker_id, lease_until)"
        b" SELECT 'x', 'in_progress', gen_random_uuid(), now() FROM generate_series(1, %s)",
        (_LEASES,),
    )
    begin = time.monotonic()
    for _ in range(_RENEWALS):
        conn.execute(b"UPDATE renewed SET lease_until = clock_timestamp()")
    elapsed = time.monotonic() - begin
    conn.execute(b"SELECT pg_stat_force_next_flush()")
    hot = one(conn, "SELECT pg_stat_get_tuples_hot_updated('renewed'::regclass)")
    conn.execute(b"DROP TABLE renewed")
    rows = _LEASES * _RENEWALS
    return {"rows_per_second": round(rows / elapsed), "hot_percent": round(100 * hot / rows, 1)}
