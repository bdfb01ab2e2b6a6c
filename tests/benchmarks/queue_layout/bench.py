"""The parameters of a run, and the small things that every measure needs."""

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

Json = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Bench:
    """The parameters of a run, printed with its results."""

    dsn: str = field(repr=False)
    rows: int
    seconds: float
    tasks: int
    deferred: int
    batch: int
    rounds: int
    processes: int
    history_days: int
    partition_days: int
    layouts: list[str]

    @property
    def distinct(self) -> list[str]:
        """Layouts whose tables differ: A2 shares all but its finish with A."""
        return [name for name in self.layouts if name != "A2"]

    def connect(self, schema: str) -> Connection:
        """Open an autocommit connection that finds the schema's tables by their bare names."""
        return psycopg.connect(self.dsn, autocommit=True, options=f"-c search_path={schema},public")


def one(conn: Connection, query: str) -> Any:
    """Return the first column of the first row."""
    row = conn.execute(query.encode()).fetchone()
    return row[0] if row else None


def outcome(conn: Connection, query: sql.Composed, parameters: Json | None = None) -> str:
    """Return what a session gets: a number of rows or an SQLSTATE."""
    try:
        return f"{conn.execute(query, parameters).rowcount} rows"
    except psycopg.Error as error:
        return f"SQLSTATE {error.sqlstate}"


def vacuum(conn: Connection, table: str) -> float:
    """Vacuum and analyze a table; seconds."""
    begin = time.monotonic()
    conn.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    return time.monotonic() - begin


def medians(rounds: list[Json]) -> Json:
    """Medians and, for the rate, the lowest and highest round."""
    result: Json = {k: round(statistics.median(r[k] for r in rounds), 2) for k in rounds[0]}
    rates = [r["tasks_per_second"] for r in rounds]
    return result | {"lowest": round(min(rates)), "highest": round(max(rates))}
