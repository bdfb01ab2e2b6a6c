"""Whether a design that the data model serves has its place in a database: a map of it, compared with the catalogue.

A map (docs/coverage, one file a design) says of each table, column, rule, index, function, view, trigger, policy and
retention rule what the design asks for and where it is. What is not as the design asks must carry its reason (`why`),
and what is must carry none.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from db.models import Base
from tests.support.database import Database

ROOT = Path(__file__).parents[2]
MAPS = ROOT / "docs" / "coverage"
# What stands in a map beside its tables, and how to find out whether it is in the database.
OBJECTS = {
    "functions": "SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace",
    "views": "SELECT schemaname || '.' || viewname FROM pg_views",
    "triggers": "SELECT t.tgrelid::regclass || '.' || t.tgname FROM pg_trigger t WHERE NOT t.tgisinternal",
    "policies": "SELECT schemaname || '.' || tablename || '.' || policyname FROM pg_policies",
    "retention": "SELECT table_schema || '.' || table_name FROM ops.retention_policies",
    # what is no object of the database: a query of the console, a task, a setting
    "queries": "SELECT NULL WHERE false",
}
# Types that mean the same, or of which ours is the wider: docs/data-model.md says why, once for all.
_TYPES = {
    "bool": "boolean",
    "decimal": "numeric",
    "float": "double precision",
    "int": "integer",
    "json": "jsonb",
    "string": "text",
    "timestamp": "timestamp with time zone",
    "timestamp without time zone": "timestamp with time zone",
    "timestamptz": "timestamp with time zone",
    "varchar": "text",
}
_DEFAULTS = {
    "current_timestamp": "now()",
    "gen_random_uuid()": "ops.uuid_v7()",
    "uuid_generate_v4()": "ops.uuid_v7()",
}
_ACTIONS = {"CASCADE": "c", "SET NULL": "n", "RESTRICT": "r", "NO ACTION": "a"}
_COLUMN = re.compile(
    r"(?P<type>[a-z][a-z ]*(?:\((?P<length>[\d, ]+)\))?(?:\[\])?)(?P<rest>(?: (?:NOT NULL|NULL|PRIMARY KEY|UNIQUE))*)"
    r"(?: DEFAULT (?P<default>.+))?"
)
# What stands elsewhere may stand in a table of ours, or in a file.
_CONTEXTS = frozenset(table.schema for table in Base.metadata.tables.values())
_Columns = dict[str, tuple[str, bool, str | None]]
_Constraints = dict[str, tuple[str, str, str]]
_Indexes = dict[str, tuple[list[str], str | None, bool]]
_INDEX = re.compile(r"(?P<name>\w+) \((?P<columns>.*?)\)(?P<where> WHERE .+)?")


@dataclass(frozen=True)
class Entry:
    """What a design asks for (`was`), what it is with us (`is_at`), why it differs, and the test that holds it."""

    was: str
    is_at: tuple[str, ...]
    why: str
    test: str

    @classmethod
    def of(cls, was: str, found: Any) -> "Entry":
        """Read an entry: a text where nothing but a name is to say."""
        if isinstance(found, str):
            return cls(was, (found,), "", "")
        names = found.get("is", ())
        at = (names,) if isinstance(names, str) else tuple(names)
        return cls(was, at, found.get("why", ""), found.get("test", ""))


def designs() -> list[str]:
    """Return the names of the maps."""
    return sorted(path.stem for path in MAPS.glob("*.toml"))


@cache
def load(design: str) -> dict[str, Any]:
    """Return a design's map."""
    return tomllib.loads((MAPS / f"{design}.toml").read_text())


def sizes(design: dict[str, Any]) -> dict[str, int]:
    """Return how much a map holds, by kind."""
    tables = design["tables"].values()
    inside = {kind: sum(len(table.get(kind, {})) for table in tables) for kind in ("columns", "rules", "indexes")}
    return {"tables": len(tables)} | inside | {kind: len(design.get(kind, {})) for kind in OBJECTS}


class Catalogue:
    """What a database holds of what designs ask for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def columns(self, table: str) -> _Columns:
        """Return type, whether it is required, and default of each column."""
        query = """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
            FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped"""
        return {name: (kind, required, default) for name, kind, required, default in self._rows(query, table)}

    def constraints(self, table: str) -> _Constraints:
        """Return kind, definition and what a deletion does of each constraint."""
        query = """SELECT conname, contype::text, pg_get_constraintdef(oid), confdeltype::text FROM pg_constraint
            WHERE conrelid = to_regclass(%s)"""
        return {name: (kind, definition, action) for name, kind, definition, action in self._rows(query, table)}

    def indexes(self, table: str) -> _Indexes:
        """Return columns or expressions, predicate and uniqueness of each index."""
        query = """
            SELECT c.relname,
                ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k),
                pg_get_expr(i.indpred, i.indrelid), i.indisunique
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s)"""
        return {name: (list(columns), where, unique) for name, columns, where, unique in self._rows(query, table)}

    def objects(self, kind: str) -> set[str]:
        """Return the names of what is there of a kind."""
        return {name for (name,) in self._database.rows(OBJECTS[kind])}

    def _rows(self, query: str, table: str) -> list[Any]:
        return self._database.rows(query, (table,))


def faults(design: dict[str, Any], catalogue: Catalogue) -> Iterator[str]:
    """Yield what a map says and the database does not hold, and what differs without a reason."""
    for name, table in design["tables"].items():
        yield from (f"{name}: {fault}" for fault in _table_faults(table, catalogue))
    for kind in OBJECTS:
        yield from (f"{kind}: {fault}" for fault in _object_faults(design.get(kind, {}), catalogue, kind))


def _table_faults(table: dict[str, Any], catalogue: Catalogue) -> Iterator[str]:
    at = table["is"]
    columns, constraints, indexes = catalogue.columns(at), catalogue.constraints(at), catalogue.indexes(at)
    if not columns:
        yield f"{at} is no table"
        return
    renamed: dict[str, str] = {}
    for name, found in table.get("columns", {}).items():
        was = found if isinstance(found, str) else found["was"]
        entry = Entry.of(was, {} if isinstance(found, str) else found)
        renamed[name] = next(iter(entry.is_at), name)
        yield from _told(name, entry, list(_column_differences(name, entry, columns, constraints, catalogue)))
    for was, found in table.get("rules", {}).items():
        entry = Entry.of(was, found)
        yield from _told(was, entry, list(_rule_differences(was, entry.is_at, constraints, indexes)))
    for was, found in table.get("indexes", {}).items():
        entry = Entry.of(was, found)
        yield from _told(was, entry, list(_index_differences(was, entry.is_at, indexes, renamed)))


def _told(name: str, entry: Entry, differences: list[str]) -> Iterator[str]:
    absent = [each for each in differences if each.startswith("!")]
    if absent:
        yield f"{name}: {absent[0][1:]}"
    elif differences and not entry.why:
        yield f"{name}: {', '.join(differences)}, and no reason is given"
    elif entry.why and not differences:
        yield f"{name}: a reason is given, and nothing differs"


def _column_differences(
    name: str, entry: Entry, columns: _Columns, constraints: _Constraints, catalogue: Catalogue
) -> Iterator[str]:
    asked = _COLUMN.fullmatch(entry.was)
    here = next(iter(entry.is_at), name)
    if asked is None:
        yield f"!cannot read {entry.was!r}"
    elif here == "-":
        yield "it has no column"
    elif "." in here:
        yield from _elsewhere(entry.is_at, catalogue)
    elif here not in columns:
        yield f"!there is no column {here}"
    else:
        if len(entry.is_at) > 1 or here != name:
            yield f"it is called {', '.join(entry.is_at)}"
        yield from _definition_differences(asked, columns[here], constraints)


def _elsewhere(at: tuple[str, ...], catalogue: Catalogue) -> Iterator[str]:
    for place in at:
        table, _, column = place.rpartition(".")
        is_lost = table.partition(".")[0] in _CONTEXTS and column not in catalogue.columns(table)
        yield f"!there is no {place}" if is_lost else f"it stands in {place}"


def _definition_differences(
    asked: re.Match[str], found: tuple[str, bool, str | None], constraints: _Constraints
) -> Iterator[str]:
    kind, required, default = found
    if (wanted := _type(asked["type"])) != _type(kind):
        yield f"is {kind}, not {wanted}"
    if asked["type"].startswith("varchar") and asked["length"] and not _bounds(constraints, asked["length"]):
        yield f"no check bounds it to {asked['length']} characters"
    if required != ("NOT NULL" in asked["rest"] or "PRIMARY KEY" in asked["rest"]):
        yield "required" if required else "not required"
    if _default(asked["default"]) != _default(default):
        yield f"its default is {default}"


def _bounds(constraints: _Constraints, length: str) -> bool:
    return any("length(" in definition and f"<= {length})" in definition for _, definition, _ in constraints.values())


def _type(written: str) -> str:
    name, paren, arguments = written.lower().strip().partition("(")
    plain = _TYPES.get(name.strip(), name.strip())
    return plain if plain == "text" or not paren else f"{plain}({arguments.replace(' ', '')}"


def _default(written: str | None) -> str | None:
    if written is None or written.upper() == "NULL":
        return None
    plain = re.sub(r"::[a-z ]+(\[\])?(\(\d+\))?", "", written.lower()).strip()
    plain = re.sub(r"^array\[\]$", "'{}'", plain)
    plain = re.sub(r"(?<=\d)\.0+$", "", plain)
    return _DEFAULTS.get(plain, plain)


def _rule_differences(was: str, at: tuple[str, ...], constraints: _Constraints, indexes: _Indexes) -> Iterator[str]:
    if not at:
        yield "it is no rule"
    for name in at:
        if name in constraints:
            yield from (f"{name} {told}" for told in _constraint_differences(was, constraints[name]))
        elif name not in indexes:
            yield f"!there is no rule {name}"
            return
        if was.startswith("UNIQUE") and not (name in indexes and indexes[name][2]):
            yield f"{name} is not unique"


def _constraint_differences(was: str, found: tuple[str, str, str]) -> Iterator[str]:
    kind, definition, action = found
    if "ON DELETE" in was and _ACTIONS[was.partition("ON DELETE ")[2].strip()] != action:
        yield "does otherwise at a deletion"
    if was.startswith("FOREIGN KEY") and kind != "f":
        yield "is no foreign key"
    values = re.findall(r"'([^']*)'", was) if was.startswith("CHECK") else []
    if lacking := [value for value in values if f"'{value}'" not in definition]:
        yield f"does not name {', '.join(lacking)}"


def _index_differences(was: str, at: tuple[str, ...], indexes: _Indexes, renamed: dict[str, str]) -> Iterator[str]:
    asked = _INDEX.fullmatch(was)
    if asked is None:
        yield f"!cannot read {was!r}"
        return
    if not at:
        yield "there is no such index"
    wanted = [_indexed(each, renamed) for each in asked["columns"].split(", ")]
    for name in at:
        if name not in indexes:
            yield f"!there is no index {name}"
            return
        columns, where, _ = indexes[name]
        bare = [each.lower().replace(" desc", "") for each in columns]
        if wanted not in (bare, bare[1:] if bare[:1] == ["tenant_id"] else bare):
            yield f"{name} is over {', '.join(columns)}"
        if bool(where) != bool(asked["where"]):
            yield f"{name} holds {'some' if where else 'all'} rows"


def _indexed(column: str, renamed: dict[str, str]) -> str:
    plain = column.strip().lower().replace(" desc", "").replace(" asc", "")
    return renamed.get(plain, plain)


def _object_faults(entries: dict[str, Any], catalogue: Catalogue, kind: str) -> Iterator[str]:
    there = catalogue.objects(kind)
    for was, found in entries.items():
        entry = Entry.of(was, found)
        for name in entry.is_at:
            if kind != "queries" and name not in there:
                yield f"{was}: there is no {name}"
        if not entry.is_at and not entry.why:
            yield f"{was}: it is nowhere, and no reason is given"
        if not _is_test(entry.test):
            yield f"{was}: there is no test {entry.test or 'named'}"


@cache
def _is_test(name: str) -> bool:
    path, _, function = name.partition("::")
    file = ROOT / path
    if not function or not file.is_file():
        return False
    found = (node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))
    return function in found
