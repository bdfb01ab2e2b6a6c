"""Whether a design that the data model serves has its place in a database: a map of it, compared with the catalogue.

A map (docs/coverage, one file a design) says of each table, column, rule, index, function, view, trigger, policy and
retention rule what the design asks for and where it is. What is not as the design asks must carry its reason (`why`),
and what is must carry none; a rule or an index says how it differs too (`differs`).
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
from tests.support.catalogue import KINDS, OBJECTS, Catalogue, Columns, Constraint
from tests.support.coverage_rules import Place, index_differences, rule_differences
from tests.support.places import is_place

ROOT = Path(__file__).parents[2]
MAPS = ROOT / "docs" / "coverage"
# What a design asks for by these may be kept by anything: a column, a task, the program.
_ANYWHERE = frozenset({"functions", "retention", "queries"})
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
_COLUMN = re.compile(
    r"(?P<type>[a-z][a-z ]*(?:\((?P<length>[\d, ]+)\))?(?:\[\])?)(?P<rest>(?: (?:NOT NULL|NULL|PRIMARY KEY|UNIQUE))*)"
    r"(?: DEFAULT (?P<default>.+))?"
)
# What stands elsewhere may stand in a table of ours, or in a file.
_CONTEXTS = frozenset(table.schema for table in Base.metadata.tables.values())


@dataclass(frozen=True)
class Entry:
    """What a design asks for (`was`), what it is with us (`is_at`), how it differs, why, and the test that holds it."""

    was: str
    is_at: tuple[str, ...]
    why: str
    test: str
    differs: str = ""

    @classmethod
    def of(cls, was: str, found: Any) -> "Entry":
        """Read an entry: a text where nothing but a name is to say."""
        if isinstance(found, str):
            return cls(was, (found,), "", "")
        names = found.get("is", ())
        at = (names,) if isinstance(names, str) else tuple(names)
        return cls(was, at, found.get("why", ""), found.get("test", ""), found.get("differs", ""))


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
    return {"tables": len(tables)} | inside | {kind: len(design.get(kind, {})) for kind in KINDS}


def nowhere(design: dict[str, Any]) -> set[str]:
    """Return what a design asks for and nothing of ours stands for: a decision, or what is still to come."""
    parts = [(kind, table.get(kind, {})) for table in design["tables"].values() for kind in ("rules", "indexes")]
    parts += [(kind, design.get(kind, {})) for kind in KINDS]
    found = {was for _, entries in parts for was, entry in entries.items() if not Entry.of(was, entry).is_at}
    columns = [table.get("columns", {}) for table in design["tables"].values()]
    return found | {
        name
        for each in columns
        for name, entry in each.items()
        if not isinstance(entry, str) and entry.get("is") == "-"
    }


def faults(design: dict[str, Any], catalogue: Catalogue) -> Iterator[str]:
    """Yield what a map says and the database does not hold, and what differs without a reason."""
    tables = {name: table["is"] for name, table in design["tables"].items()}
    for name, table in design["tables"].items():
        yield from (f"{name}: {fault}" for fault in _table_faults(table, tables, catalogue))
    for kind in KINDS:
        yield from (f"{kind}: {fault}" for fault in _object_faults(design.get(kind, {}), catalogue, kind))


def _table_faults(table: dict[str, Any], tables: dict[str, str], catalogue: Catalogue) -> Iterator[str]:
    at = table["is"]
    columns, constraints = catalogue.columns(at), catalogue.constraints(at)
    if not columns:
        yield f"{at} is no table"
        return
    names: dict[str, str] = {}
    for name, found in table.get("columns", {}).items():
        was = found if isinstance(found, str) else found["was"]
        entry = Entry.of(was, {} if isinstance(found, str) else found)
        names[name] = next(iter(entry.is_at), name)
        yield from _told(name, entry, list(_column_differences(name, entry, columns, constraints, catalogue)))
    place = Place(at, names, tables, constraints, catalogue.indexes(at), catalogue)
    for kind, differences in (("rules", rule_differences), ("indexes", index_differences)):
        for was, found in table.get(kind, {}).items():
            entry = Entry.of(was, found)
            told = [" ".join(each.split()) for each in differences(was, entry.is_at, place)]
            yield from _told(was, entry, told, is_nowhere=not entry.is_at)
            yield from _otherwise(was, entry, ", ".join(told))


def _told(name: str, entry: Entry, differences: list[str], *, is_nowhere: bool = False) -> Iterator[str]:
    absent = [each for each in differences if each.startswith("!")]
    if absent:
        yield f"{name}: {absent[0][1:]}"
    elif differences and not entry.why:
        yield f"{name}: {', '.join(differences)}, and no reason is given"
    elif entry.why and not differences:
        yield f"{name}: a reason is given, and nothing differs"
    if (is_nowhere or entry.is_at == ("-",) or entry.test) and not _is_test(entry.test):
        yield f"{name}: there is no test {entry.test or 'named'}"


def _otherwise(was: str, entry: Entry, told: str) -> Iterator[str]:
    """Yield where a rule or an index does not differ as its map says: a reason is for one difference, not for any."""
    if entry.why and entry.is_at and told and told != entry.differs:
        yield f"{was}: {told}, and its map says: {entry.differs or 'nothing'}"


def _column_differences(
    name: str, entry: Entry, columns: Columns, constraints: dict[str, Constraint], catalogue: Catalogue
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
        yield from _definition_differences(asked, here, columns[here], constraints)


def _elsewhere(at: tuple[str, ...], catalogue: Catalogue) -> Iterator[str]:
    for place in at:
        table, _, column = place.rpartition(".")
        is_lost = table.partition(".")[0] in _CONTEXTS and column not in catalogue.columns(table)
        yield f"!there is no {place}" if is_lost else f"it stands in {place}"


def _definition_differences(
    asked: re.Match[str], here: str, found: tuple[str, bool, str | None], constraints: dict[str, Constraint]
) -> Iterator[str]:
    kind, required, default = found
    if (wanted := _type(asked["type"])) != _type(kind):
        yield f"is {kind}, not {wanted}"
    if asked["type"].startswith("varchar") and asked["length"] and not _bounds(constraints, here, asked["length"]):
        yield f"no check bounds it to {asked['length']} characters"
    if required != ("NOT NULL" in asked["rest"] or "PRIMARY KEY" in asked["rest"]):
        yield "required" if required else "not required"
    if _default(asked["default"]) != _default(default):
        yield f"its default is {default}"


def _bounds(constraints: dict[str, Constraint], column: str, length: str) -> bool:
    return any(f"(length({column}) <= {length})" in constraint.definition for constraint in constraints.values())


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


def _object_faults(entries: dict[str, Any], catalogue: Catalogue, kind: str) -> Iterator[str]:
    there = catalogue.objects(kind) if kind in OBJECTS else set()
    for was, found in entries.items():
        entry = Entry.of(was, found)
        for name in entry.is_at:
            if name not in there and not (kind in _ANYWHERE and (name in catalogue.things or is_place(name))):
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
