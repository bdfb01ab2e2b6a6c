"""What a statement reads: run in its generic form, as the login that runs it, against a database that is full.

The server's own counters tell it for all that a statement causes: functions, triggers and foreign keys as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import psycopg
from psycopg import sql

from db.connection import Connection, bind_tenant
from db.queries import Queries
from tests.integration.queue.test_named_sql import _PARAMETER, numbered
from tests.support.database import Database
from tests.support.full import ANALYSED, FEW, MANY, STATES, Full, Whose, key

# Logins whose transactions are bound to no tenant when they run what is guarded here.
_UNBOUND = ("system", "relay", "owner")
_COUNTERS = """
SELECT c.relname, CASE c.relkind WHEN 'i' THEN COALESCE(pg_partition_root(c.oid), c.oid)::regclass::text END,
    pg_relation_size(c.oid), pg_stat_get_xact_numscans(c.oid), pg_stat_get_xact_tuples_returned(c.oid)
FROM pg_class c
WHERE c.relkind IN ('r', 'i') AND pg_stat_get_xact_numscans(c.oid) > 0
    AND c.relnamespace::regnamespace::text <> ALL (ARRAY['pg_catalog', 'pg_toast', 'information_schema'])
"""
# Plans may be parallel, but no worker of one starts: it would count for itself.
_SETTINGS = "SELECT set_config('plan_cache_mode', %s, true), set_config('max_parallel_workers', '0', true)"
_LARGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Own:
    """Stands for the key of the tenant's row in a table, or for several of them."""

    table: str
    count: int | None = None

    def of(self, whose: Whose) -> Any:
        """Return the key, or that many keys in a list."""
        if self.count is None:
            return key(self.table, whose.number)
        step = 5 if whose is MANY else 1  # of five rows one is another tenant's
        return [key(self.table, whose.number + step * n) for n in range(self.count)]


@dataclass(frozen=True)
class Guard:
    """A statement, who runs it with what, the indexes that it leans on, and the most rows and pages that it may read.

    `statement` is the name of one of db/sql, or SQL of its own with the same parameters. Rows are those of tables read
    from end to end, and entries of indexes.
    """

    role: str
    statement: str
    values: Mapping[str, Any] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    rows: int = 300
    buffers: int = 500
    tenants: tuple[Whose, ...] = (MANY, FEW)
    plan: str = "force_generic_plan"
    blind: bool = True
    """Whether it holds where nobody has analysed, too: Postgres takes every tenant for a 200th of a table then."""

    @property
    def text(self) -> str:
        """The statement's text."""
        file, _, name = self.statement.partition(".")
        return self.statement if " " in self.statement else Queries(file).text(name).as_string(None)

    @property
    def name(self) -> str:
        """What the statement is called: by its file and name, or as what it calls, reads or changes."""
        if " " not in self.statement:
            return self.statement
        kept, named = (re.search(pattern, self.statement) for pattern in (r"begin_retention\('([\w-]+)'", r"\w+\.\w+"))
        return f"retention {kept[1]}" if kept else named[0] if named else self.statement

    def __str__(self) -> str:
        return f"{self.role}-{self.name}"


@dataclass(frozen=True)
class Reading:
    """What a statement read the second time that it ran: the first reads the catalogue, too."""

    scanned: set[str]
    indexes: set[str]
    rows: int
    buffers: int

    def faults(self, guard: Guard) -> list[str]:
        """Return what it reads against its guard."""
        unused = [name for name in guard.indexes if not any(fnmatch(used, name) for used in self.indexes)]
        found = [f"it reads all of {table}" for table in sorted(self.scanned)]
        found += [f"it does not use {name}, but {sorted(self.indexes)}" for name in unused]
        found += ["it finds nothing"] if guard.indexes and not self.rows else []
        found += [f"{self.rows} rows"] if self.rows > guard.rows else []
        return found + ([f"{self.buffers} pages"] if self.buffers > guard.buffers else [])


def cases(guards: Sequence[Guard]) -> list[tuple[str, Guard]]:
    """Return each guard in each state that it holds in, the states in their order."""
    return [(state, guard) for state in STATES for guard in guards if guard.blind or state == ANALYSED]


def faults(database: Full, state: str, guard: Guard) -> list[str]:
    """Return what a statement reads against its guard in a state, for whom."""
    database.bring_to(state)
    found = {whose.name: read(database.database, guard, whose).faults(guard) for whose in guard.tenants}
    return [f"{whose}: {fault}" for whose, each in found.items() for fault in each]


def read(database: Database, guard: Guard, whose: Whose) -> Reading:
    """Run a statement for a tenant, look at what it reads, and take it back."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(guard.text)))
    values = [_value(guard.values.get(name), whose) for name in parameters]
    connection = database.connect(guard.role)
    with connection.transaction(force_rollback=True):
        bind_tenant(connection, None if guard.role in _UNBOUND else whose.tenant)
        connection.execute(_SETTINGS, (guard.plan,))
        connection.execute(sql.SQL("PREPARE guarded AS ") + sql.SQL(numbered(guard.text)))
        arguments = sql.SQL(", ").join(sql.Placeholder() * len(values))
        call = sql.SQL("EXECUTE guarded({})").format(arguments) if values else sql.SQL("EXECUTE guarded")
        explained(connection, call, values)
        before = _counters(connection)
        plan = explained(connection, call, values)
        after = _counters(connection)
    connection.close()
    return _reading(before, after, plan)


def explained(connection: Connection, call: sql.Composable, values: list[Any]) -> dict[str, Any]:
    """Run a statement and take it back; return its plan as it ran."""
    with connection.transaction(force_rollback=True):
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ") + call, values)
        [(plan,)] = cursor.fetchall()
        found: dict[str, Any] = plan[0]["Plan"]
    return found


def _value(value: Any, whose: Whose) -> Any:
    if callable(value):
        return value(whose)
    return value.of(whose) if isinstance(value, Own) else value


def _counters(connection: Connection) -> dict[tuple[str, str | None, int], tuple[int, int]]:
    rows = connection.execute(_COUNTERS.encode()).fetchall()
    return {(name, index, size): (scans, read) for name, index, size, scans, read in rows}


def _reading(
    before: Mapping[Any, tuple[int, int]], after: Mapping[Any, tuple[int, int]], plan: dict[str, Any]
) -> Reading:
    scanned, indexes, rows = set(), set(), 0
    for (name, index, size), (scans, read) in after.items():
        earlier = before.get((name, index, size), (0, 0))
        if scans == earlier[0]:
            continue
        rows += read - earlier[1]
        if index is not None:
            indexes.add(index.rpartition(".")[2])
        elif size >= _LARGE_BYTES:
            scanned.add(name)
    buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return Reading(scanned, indexes, rows, buffers)
