"""Rows of any table, as its model declares it: what is required and nothing else, with the rows that it refers to."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pgvector.sqlalchemy import SPARSEVEC, VECTOR
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import DOMAIN, INET, JSONB
from sqlalchemy.types import TypeEngine

from db.connection import Connection
from db.models import Base

Row = dict[str, Any]
_numbers = itertools.count(1)
_TABLES = {f"{table.schema}.{table.name}": table for table in Base.metadata.tables.values()}


def table(name: str) -> Table:
    """Return a table by schema and name."""
    return _TABLES[name]


class Factory:
    """Makes one tenant's rows over the owner's connection, each with parents of its own unless they are given."""

    def __init__(self, owner: Connection, tenant_id: UUID) -> None:
        self.owner = owner
        self.tenant_id = tenant_id
        self._parents: dict[str, Row] = {}
        self._spaces: dict[str, UUID] = {}

    def values(self, name: str, /, **given: Any) -> Row:
        """Return what a row needs, its parents made: `given` goes before all else."""
        special = SPECIAL[name](self, given) if name in SPECIAL else {}
        found: Row = special | given
        for column in table(name).columns:
            if column.name not in found and _is_required(column):
                found[column.name] = self.value(column)
        return found

    def row(self, name: str, /, **given: Any) -> Row:
        """Insert a row and return all of it. Raises the driver's errors."""
        return self.insert(name, self.values(name, **given))

    def insert(self, name: str, values: Row, *, leaf: str | None = None) -> Row:
        """Insert values as they are, into a partition of the table where a leaf is named. An identity may be given."""
        schema, _, relation = name.partition(".")
        statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) RETURNING *").format(
            sql.Identifier(schema, leaf or relation),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        columns = table(name).columns
        adapted = [
            Jsonb(v) if isinstance(_beneath(columns[key]), JSONB) and v is not None else v for key, v in values.items()
        ]
        with self.owner.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(statement, adapted).fetchone()
        assert row is not None
        return row

    def parent(self, name: str) -> Row:
        """Return the row of a table that this factory's rows refer to, made at first use."""
        if name not in self._parents:
            self._parents[name] = self.row(name)
        return self._parents[name]

    def value(self, column: Column[Any]) -> Any:
        """Return a column's value: a parent's key, of a new parent where a unique key takes each but once."""
        if column.name == "tenant_id":
            return self.tenant_id
        if partition_key(column.table) == ("LIST", "space_id") and column.name == "space_id":
            return self._space(column.table)
        for key in column.foreign_keys:
            target = f"{key.column.table.schema}.{key.column.table.name}"
            found = self.row(target) if _is_taken_once(column) else self.parent(target)
            return found[key.column.name]
        return valid(column)

    def chunk_without_terms(self) -> UUID:
        """Make a chunk and take away the terms that a trigger gives it."""
        made: UUID = self.row("knowledge.chunks")["id"]
        self.owner.execute("DELETE FROM knowledge.chunk_terms WHERE chunk_id = %s", (made,))
        return made

    def _space(self, vectors: Table) -> UUID:
        """Return a space that has a partition of that table, and is not the active one: chunk_vectors are of chunks."""
        kind = vectors.name.removesuffix("_vectors") + "s"
        if kind not in self._spaces:
            create = "SELECT knowledge.create_space(%s, %s, 'r', 1, 512)"
            row = self.owner.execute(create, (kind, f"model{next(_numbers)}")).fetchone()
            assert row is not None
            self._spaces[kind] = row[0]
            self.owner.execute("UPDATE knowledge.spaces SET is_active = false WHERE id = %s", row)
        return self._spaces[kind]


def partition_key(of: Table) -> tuple[str, str] | None:
    """Return how a table is parted and by which column, if it is."""
    found = re.fullmatch(r"(\w+) \((\w+)\)", of.dialect_options["postgresql"]["partition_by"] or "")
    return (found[1], found[2]) if found else None


def valid(column: Column[Any]) -> Any:
    """Return a value that a column's own rules allow, another one each time where it may be any."""
    kind, check = _beneath(column), column.info.get("check", "")
    if isinstance(kind, Text):
        return _text(str(column.type.check) if isinstance(column.type, DOMAIN) else check)
    if isinstance(kind, JSONB):
        return [] if "'array'" in check else {}
    if isinstance(kind, SPARSEVEC):
        return f"{{1:1}}/{kind.dim}"
    for types, value in _VALUES:
        if isinstance(kind, types):
            return value()
    raise TypeError(f"no value is known for {column}: {kind}")


_VALUES: tuple[tuple[Any, Callable[[], Any]], ...] = (
    (ARRAY, list),
    (Boolean, lambda: False),
    (Float, lambda: 0.5),
    (Integer, lambda: 1),
    (Numeric, lambda: 1),
    (LargeBinary, lambda: uuid4().bytes * 2),
    (Date, lambda: date(2020, 1, 1)),
    (DateTime, lambda: datetime.now(UTC) + timedelta(microseconds=next(_numbers))),
    (INET, lambda: "127.0.0.1"),
    (Uuid, uuid4),
    (VECTOR, lambda: "[1]"),
)


def _beneath(column: Column[Any]) -> TypeEngine[Any]:
    return column.type.data_type if isinstance(column.type, DOMAIN) else column.type


def _text(check: str) -> str:
    number = next(_numbers)
    if found := re.search(r"IN \('([^']*)'", check):
        return found[1]
    if "@" in check:
        return f"user{number}@example.com"
    least = re.search(r"BETWEEN (\d+) AND", check)
    return f"t{number}".ljust(int(least[1]) if least else 1, "x")


def _is_required(column: Column[Any]) -> bool:
    return not column.nullable and column.server_default is None and column.computed is None and column.identity is None


def _is_taken_once(column: Column[Any]) -> bool:
    """Tell whether a unique key asks for a new parent each time: its last, where nothing else in the key differs."""
    for key in _keys(column.table):
        references = [each for each in key if each.foreign_keys and each.name != "tenant_id"]
        if references and references[-1] is column and not any(map(_differs, key)):
            return True
    return False


def _keys(of: Table) -> Iterator[list[Column[Any]]]:
    for constraint in of.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            yield list(constraint.columns)
    for index in of.indexes:
        if index.unique:
            yield list(index.columns)


def _differs(column: Column[Any]) -> bool:
    """Tell whether a column has another value in each row, whatever it refers to; NULL is another one."""
    if column.nullable or column.foreign_keys:
        return bool(column.nullable)
    closed = isinstance(column.type, Text) and (" IN (" in column.info.get("check", "") or column.server_default)
    return isinstance(column.type, Text | DateTime | Uuid) and not closed


# What a table's rules ask for beyond each column's own: by table, what goes with the values that are given.


def _agent(_factory: Factory, given: Row) -> Row:
    return {} if "persona_id" in given else {"slug": f"agent-{next(_numbers)}"}


def _conversation(factory: Factory, given: Row) -> Row:
    if "persona_id" in given:
        return {"channel": "email"}
    return {} if "agent_id" in given else {"agent_id": factory.parent("assistants.agents")["id"]}


def _mailbox(factory: Factory, given: Row) -> Row:
    """Complete each side of which something is given; the one that reads if neither."""
    found: Row = {}
    sides = {name.partition("_")[0] for name in given} & {"imap", "smtp"}
    for side in sides or {"imap"}:
        found |= {
            f"{side}_host": f"{side}.example.com",
            f"{side}_port": 993 if side == "imap" else 465,
            f"{side}_security": "tls",
            f"{side}_login": "password",
            f"{side}_username": "ada",
        }
        if f"{side}_secret_id" not in given:
            found[f"{side}_secret_id"] = factory.parent("vault.secrets")["id"]
    return found


def _tool_execution(factory: Factory, given: Row) -> Row:
    found = {"tool_name": "search"}
    return found | {"tool_id": factory.parent("tools.tools")["id"], "trace_id": "t"} if given.get("run_id") else found


def _policy(_factory: Factory, _given: Row) -> Row:
    return {
        "table_schema": "identity",
        "table_name": "session_activities",
        "age_column": "created_at",
        "age": "30 days",
        "filter": {"activity_type": f"t{next(_numbers)}"},
    }


SPECIAL: dict[str, Callable[[Factory, Row], Row]] = {
    "assistants.agents": _agent,
    "assistants.conversations": _conversation,
    "assistants.messages": lambda _factory, _given: {"content": "Hello"},
    "assistants.run_steps": lambda _factory, given: {"step_type": "tool_call"} if given.get("tool_id") else {},
    "assistants.runs": lambda _factory, _given: {"trace_id": f"run-{uuid4()}"},
    "knowledge.chunk_terms": lambda factory, given: (
        {} if "chunk_id" in given else {"chunk_id": factory.chunk_without_terms()}
    ),
    "knowledge.chunks": lambda _factory, _given: {"start_offset": 0, "end_offset": 1},
    "knowledge.memories": lambda _factory, _given: {"status": "superseded"},
    "knowledge.term_statistics": lambda _factory, _given: {"key": next(_numbers)},
    "mail.mailboxes": _mailbox,
    "ops.health_thresholds": lambda factory, given: (
        {} if "persona_id" in given or "metric" in given else {"persona_id": factory.row("assistants.personas")["id"]}
    ),
    "ops.persona_health_hourly": lambda _factory, _given: {
        "hour": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=next(_numbers))
    },
    "ops.retention_policies": _policy,
    "queue.fires": lambda _factory, _given: {"outcome": "missed"},
    "queue.schedules": lambda _factory, given: {} if {"every_seconds", "at"} & set(given) else {"cron": "0 4 * * *"},
    "tools.mcp_servers": lambda factory, _given: {"tenant_id": factory.tenant_id, "server_type": "sse"},
    "tools.tool_executions": _tool_execution,
}
