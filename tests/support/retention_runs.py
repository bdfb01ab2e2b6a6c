"""Retention tried: policies, the task that enforces them, and what is in all tables before and after."""

from functools import partial
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg.types.json import Jsonb

from db import months, retention_runs
from db.connection import Connection
from pipelines.retention.enforce import TASKS, EnforceRetention
from pipelines.retention.runs import Pacer
from tests.support.database import Database
from tests.support.statements import value
from tests.support.tenants import named
from workers.testing import TaskRun, run_task

[ENFORCE] = TASKS
_PAGE = 10_000
OLD, OLDER = "2020-02-03 00:00+00", "2019-12-03 00:00+00"
RUNS = "SELECT status, rows_deleted, rows_held FROM ops.retention_runs WHERE policy_name = %s ORDER BY id"
_TABLES = """
SELECT t.relation::text FROM ops.kept_tables() t JOIN pg_class c ON c.oid = t.relation
WHERE NOT c.relispartition OR c.relkind = 'p' ORDER BY 1
"""
_ADD = """
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, action, tenant_id, persona_id,
    filter, most_share, cadence, is_held, hold_reason)
VALUES (%(name)s, %(schema)s, %(table)s, %(age_column)s, %(age)s, %(action)s, %(tenant_id)s, %(persona_id)s,
    %(filter)s, %(most_share)s, %(cadence)s, %(is_held)s, CASE WHEN %(is_held)s THEN 'a court''s order' END)
"""
_PLAIN: dict[str, Any] = {
    "age": "1 year", "action": "delete", "tenant_id": None, "persona_id": None, "filter": {}, "most_share": 1,
    "cadence": "daily", "is_held": False,
}  # fmt: skip


def add(database: Database, table: str, age_column: str = "created_at", **given: Any) -> str:
    """Write a policy that never asks and takes what is a year old, or what is given; return its name."""
    schema, _, name = table.partition(".")
    values = _PLAIN | {"name": f"policy {uuid4()}", "schema": schema, "table": name, "age_column": age_column} | given
    database.rows(_ADD, values | {"filter": Jsonb(values["filter"])})
    return str(values["name"])


def hold(database: Database, table: str, age_column: str = "created_at", **given: Any) -> str:
    """Write a hold."""
    return add(database, table, age_column, is_held=True, **given)


def enforced(database: Database, *policies: str, **given: Any) -> TaskRun:
    """Run the task's handler once."""
    return run_task(database, ENFORCE, EnforceRetention(policies=policies, **given))


def let_go(connection: Connection, policy: str) -> int:
    """Let what a policy takes go as its task does, but in the connection's own transaction; return how many rows."""
    run_id, _ = retention_runs.begin(connection, policy, uuid4(), is_confirmed=True)
    if run_id is None:
        return 0
    retention_runs.weigh(connection, run_id)
    while retention_runs.page(connection, run_id, _PAGE)[1] == "more":
        continue
    return ended(connection, run_id)


def let_months_go(connection: Connection, policy: str) -> int:
    """Do as `let_go` for a policy that takes whole months."""
    run_id, _ = retention_runs.begin(connection, policy, uuid4(), is_confirmed=True)
    if run_id is None:
        return 0
    retention_runs.weigh(connection, run_id)
    for leaf in months.to_go(connection, run_id):
        while months.clear(connection, run_id, leaf, _PAGE) == _PAGE:
            continue
        months.drop(connection, run_id, leaf)
    return ended(connection, run_id)


def ended(connection: Connection, run_id: UUID) -> int:
    """End a run; return how many rows it let go."""
    retention_runs.end(connection, run_id)
    return int(value(connection, "SELECT rows_deleted FROM ops.retention_runs WHERE id = %s", run_id))


def pages_of(most: int) -> "partial[Pacer]":
    """Return a pacer whose pages have so many rows, and that does not rest."""
    return partial(Pacer, most=most, rest=lambda seconds: None)


def counts(database: Database) -> dict[str, int]:
    """Return how many rows each table has."""
    tables = [name for (name,) in database.rows(_TABLES)]
    each = sql.SQL("SELECT {}::text, count(*) FROM {}")
    query = sql.SQL(" UNION ALL ").join(each.format(sql.Literal(name), named(name)) for name in tables)
    return dict(database.rows(query.as_string()))


def came_to(database: Database, policy: str) -> list[tuple[Any, ...]]:
    """Return status, deleted and held rows of a policy's runs."""
    return database.rows(RUNS, (policy,))
