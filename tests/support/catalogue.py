"""What a migrated database holds of what designs ask for, read from its catalogue, and how expressions are compared."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from psycopg import sql

from db.connection import Connection
from tests.support.database import Database
from tests.support.tenants import named

Columns = dict[str, tuple[str, bool, str | None]]
# What stands in a map beside its tables, and how to find out whether it is in the database.
KINDS = ("functions", "views", "triggers", "policies", "retention", "queries")
OBJECTS = {
    "functions": "SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace",
    "views": "SELECT schemaname || '.' || viewname FROM pg_views",
    "triggers": "SELECT t.tgrelid::regclass || '.' || t.tgname FROM pg_trigger t WHERE NOT t.tgisinternal",
    "policies": "SELECT schemaname || '.' || tablename || '.' || policyname FROM pg_policies",
    "retention": "SELECT table_schema || '.' || table_name FROM ops.retention_policies",
    # and whatever there is, for what a design asks for without saying by what
    "things": """
        SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        UNION ALL SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        UNION ALL SELECT n.nspname || '.' || c.relname || '.' || a.attname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
        UNION ALL SELECT n.nspname || '.' || c.relname || '.' || k.conname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_constraint k ON k.conrelid = c.oid
        UNION ALL SELECT n.nspname || '.' || c.relname || '.' || t.tgname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_trigger t ON t.tgrelid = c.oid
        UNION ALL SELECT rolname FROM pg_roles
        UNION ALL SELECT name FROM pg_settings
    """,
}
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
SELECT c.conname, c.contype::text, pg_get_constraintdef(c.oid), c.confdeltype::text, f.relation, f.own, f.other,
    f.emptied
FROM pg_constraint c, LATERAL (
    SELECT n.nspname || '.' || r.relname AS relation,
        ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place) AS own,
        ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY k.place) AS other,
        ARRAY(SELECT a.attname::text FROM unnest(c.confdelsetcols) k (number)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) AS emptied
    FROM (SELECT) one LEFT JOIN pg_class r ON r.oid = c.confrelid LEFT JOIN pg_namespace n ON n.oid = r.relnamespace
) AS f
WHERE c.conrelid = to_regclass(%s)
"""
_INDEXES = """
SELECT c.relname,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k),
    pg_get_expr(i.indpred, i.indrelid), i.indisunique, i.indnullsnotdistinct
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s)
"""
# What bounds values and is no constraint of a table: a domain's checks, which partitions there are.
_BOUNDS = """
SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_type t ON t.oid = c.contypid
WHERE t.typnamespace::regnamespace || '.' || t.typname = %(name)s
UNION ALL
SELECT pg_get_partition_constraintdef(r.oid) FROM pg_class r
WHERE r.oid = to_regclass(%(name)s) AND r.relispartition
"""
_CAST = re.compile(
    r"::(?:double precision|timestamp with time zone|character varying|\w+)(?:\[\])?(?:\(\d+(?:,\d+)?\))?"
)
_QUOTED = re.compile(r"('(?:[^']|'')*')")
_ALONE_IN_PARENTHESES = re.compile(r"(?<!\w)\((\w+|-?[\d.]+|'(?:[^']|'')*')\)")
_MEMBERS = re.compile(r"ARRAY\[([^]]*)\]")


class Constraint(NamedTuple):
    """A constraint: its kind as in pg_constraint, its definition, and what a foreign key points to and does."""

    kind: str
    definition: str
    action: str
    target: str | None
    columns: list[str]
    target_columns: list[str]
    emptied: list[str]


class Index(NamedTuple):
    """An index: its columns or expressions in order, its predicate, and what is unique in it."""

    columns: list[str]
    where: str | None
    is_unique: bool
    nulls_are_alike: bool


class Catalogue:
    """What a database holds of what designs ask for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owner: Connection = database.connect()

    def columns(self, table: str) -> Columns:
        """Return type, whether it is required, and default of each column."""
        return {name: tuple(rest) for name, *rest in self._rows(_COLUMNS, table)}

    def constraints(self, table: str) -> dict[str, Constraint]:
        """Return a table's constraints by name."""
        return {name: Constraint(*rest) for name, *rest in self._rows(_CONSTRAINTS, table)}

    def indexes(self, table: str) -> dict[str, Index]:
        """Return a table's indexes by name."""
        return {name: Index(*rest) for name, *rest in self._rows(_INDEXES, table)}

    @cached_property
    def things(self) -> set[str]:
        """The names of all relations, columns, constraints, triggers, functions, roles and settings."""
        return self.objects("things")

    def objects(self, kind: str) -> set[str]:
        """Return the names of what is there of a kind."""
        return {name for (name,) in self._database.rows(OBJECTS[kind])}

    def bounds(self, name: str) -> list[str]:
        """Return how a domain, or a partition by its place, bounds values; nothing where it does not."""
        return [text for (text,) in self._database.rows(_BOUNDS, {"name": name})]

    def parsed(self, table: str, expression: str) -> str:
        """Return a condition over a table's columns as Postgres writes it back. Raises psycopg's errors."""
        probe = sql.SQL("CREATE TEMPORARY TABLE probe (LIKE {})").format(named(table))
        with self._owner.transaction(force_rollback=True):
            self._owner.execute(probe)
            self._owner.execute(b"ALTER TABLE probe ADD CONSTRAINT probed CHECK (" + expression.encode() + b")")
            query = b"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'probed'"
            [(written,)] = self._owner.execute(query).fetchall()
        return str(written)

    def _rows(self, query: str, table: str) -> list[Any]:
        return self._database.rows(query, (table,))


def conjuncts(written: str) -> set[str]:
    """Return what a condition that Postgres wrote asks for, each by itself and in one form.

    Casts go, numbers have one spelling, a list of values one order.
    """
    text = _outside_quotes(lambda part: _CAST.sub("", part), written.removeprefix("CHECK "))
    text = _ALONE_IN_PARENTHESES.sub(r"\1", text)
    text = _outside_quotes(lambda part: re.sub(r"\b(\d+)\.0+\b", r"\1", part), text)
    text = _MEMBERS.sub(lambda found: f"ARRAY[{', '.join(sorted(found[1].split(', ')))}]", text)
    return set(_parts(text))


def members(conjunct: str) -> tuple[str, set[str]] | None:
    """Return what a closed set is of, and its members, where the condition is one; a single value is one too."""
    found = re.fullmatch(r"(.+) = (?:ANY \(ARRAY\[(.*)\]\)|('.*'))", conjunct)
    return (found[1], set((found[2] or found[3]).split(", "))) if found else None


def renamed(expression: str, names: dict[str, str]) -> str:
    """Return a condition with other names of columns."""
    return _outside_quotes(
        lambda part: re.sub(r"\b[a-z_]\w*\b", lambda word: names.get(word[0], word[0]), part), expression
    )


def _outside_quotes(change: Callable[[str], str], text: str) -> str:
    return "".join(part if part.startswith("'") else change(part) for part in _QUOTED.split(text))


def _parts(text: str) -> Iterator[str]:
    plain = text.strip()
    while plain.startswith("(") and _closing(plain) == len(plain) - 1:
        plain = plain[1:-1].strip()
    cuts = list(_cuts(plain))
    if not cuts:
        yield plain.removesuffix(" = true")
        return
    for start, end in zip([0, *(cut + 5 for cut in cuts)], [*cuts, len(plain)], strict=True):
        yield from _parts(plain[start:end])


def _cuts(text: str) -> Iterator[int]:
    """Yield where " AND " stands outside of parentheses and quotes."""
    for place, depth in _depths(text):
        if depth == 0 and text.startswith(" AND ", place):
            yield place


def _closing(text: str) -> int:
    """Return where the parenthesis that begins a text ends."""
    return next(place for place, depth in _depths(text) if text[place] == ")" and depth == 0)


def _depths(text: str) -> Iterable[tuple[int, int]]:
    """Yield each place outside of quotes, with how many parentheses are open behind it."""
    depth, is_quoted = 0, False
    for place, sign in enumerate(text):
        is_quoted ^= sign == "'"
        if is_quoted:
            continue
        depth += (sign == "(") - (sign == ")")
        yield place, depth
