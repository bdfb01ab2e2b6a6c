"""Schemas with a layout's tables: created, filled, emptied between rounds, dropped."""

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from psycopg import sql

from tests.benchmarks.queue_layout.bench import Bench, Connection, vacuum
from tests.benchmarks.queue_layout.candidates import LAYOUTS, Layout


def prepare(bench: Bench, *, rebuild: bool) -> None:
    """Build what is missing, two schemas at a time."""
    wanted = {
        LAYOUTS[name].schema(full=full): (LAYOUTS[name], bench.rows if full else 0)
        for full in (True, False)
        for name in bench.layouts
    }
    with ProcessPoolExecutor(2) as pool:
        jobs = []
        for schema, (layout, rows) in wanted.items():
            if rebuild:
                drop(bench, schema)
            if not _exists(bench, schema):
                jobs.append(pool.submit(build, bench, layout, rows, schema, bench.partition_days))
        for job in jobs:
            job.result()


def build(bench: Bench, layout: Layout, rows: int, schema: str, width: int) -> None:
    """Create a layout in a new schema and fill its history, indexes last."""
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        conn.execute(layout.statement("columns"))
        conn.execute(layout.statement("schema"))
        if layout.is_partitioned:
            _create_partitions(conn, layout.history, bench.history_days, width)
        if rows:
            conn.execute(layout.statement("fill"), {"rows": rows, "days": bench.history_days})
        conn.execute(layout.statement("history_indexes"))
        conn.execute(layout.statement("live_indexes"))
        vacuum(conn, layout.live)
        vacuum(conn, layout.history)


def clear(bench: Bench, layout: Layout) -> None:
    """Remove the live tasks of the layout's full schema."""
    with bench.connect(layout.schema(full=True)) as conn:
        conn.execute(layout.statement("empty"))
        vacuum(conn, layout.live)


def drop(bench: Bench, schema: str) -> None:
    """Remove a schema, if it is there."""
    with bench.connect(schema) as conn:
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def midnight(days: int) -> datetime:
    """Return the midnight, UTC, that many days from today's."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=days)


def _exists(bench: Bench, schema: str) -> bool:
    with bench.connect(schema) as conn:
        found = conn.execute("SELECT to_regclass('outbox_tasks') IS NOT NULL").fetchone()
    return bool(found and found[0])


def _create_partitions(conn: Connection, table: str, past_days: int, width: int) -> None:
    """Cover the past and two widths of the future with partitions of `width` days."""
    bounds = [midnight(days) for days in range(-past_days - 1, 3 * width, width)]
    for low, high in pairwise(bounds):
        conn.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(f"{table}_{low:%Y%m%d}"), sql.Identifier(table), low, high
            )
        )
