"""Whether a rule or an index that a design asks for is the one that a database has: what it holds, points to and does.

Rules are written in the maps as SQL over the design's columns. A CHECK is read by Postgres itself and compared as a set
of conditions, so that each bound and each member of a closed set counts; a length is its column's type. The tenant in
front of a key, and beside a reference, is ours everywhere and no difference. Where a design says nothing of a deletion,
any action will do.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psycopg

from tests.support.catalogue import Catalogue, Constraint, Index, conjuncts, members, renamed

T = TypeVar("T")
_ACTIONS = {"CASCADE": "c", "SET NULL": "n", "RESTRICT": "r", "NO ACTION": "a"}
_UNIQUE = re.compile(r"UNIQUE \((?P<columns>[^)]*)\)(?: WHERE (?P<where>.+))?")
_REFERENCE = re.compile(r"FOREIGN KEY \((?P<column>\w+)\) REFERENCES (?P<table>\w+)(?: ON DELETE (?P<action>[A-Z ]+))?")
_CHECK = re.compile(r"CHECK \((?P<condition>.+)\)")
_INDEX = re.compile(r"(?P<name>\w+) \((?P<columns>.*?)\)(?: WHERE (?P<where>.+))?")
# A length is its column's type, and a partition's key is known.
_ASIDE = re.compile(r"(?:octet_)?length\(\w+\) <= \d+|\w+ IS NOT NULL")


@dataclass(frozen=True)
class Place:
    """A table of a design in the database: what it holds there, its columns' new names, and where the others stand."""

    at: str
    names: dict[str, str]
    tables: dict[str, str]
    constraints: dict[str, Constraint]
    indexes: dict[str, Index]
    catalogue: Catalogue

    def parsed(self, condition: str) -> set[str]:
        """Return what a condition over the design's columns asks for. Raises psycopg's errors."""
        return conjuncts(self.catalogue.parsed(self.at, renamed(condition, self.names)))


def rule_differences(was: str, at: tuple[str, ...], place: Place) -> Iterator[str]:
    """Yield in what a rule differs; what is marked by ! no reason excuses."""
    if not at:
        yield "it is no rule"
    elif key := _UNIQUE.fullmatch(was):
        yield from _each(at, place, place.indexes, partial(_key_differences, key, place))
    elif reference := _REFERENCE.fullmatch(was):
        yield from _each(at, place, place.constraints, partial(_reference_differences, reference, place))
    elif check := _CHECK.fullmatch(was):
        yield from _check_differences(check["condition"], at, place)
    else:
        yield f"!cannot read {was!r}"


def index_differences(was: str, at: tuple[str, ...], place: Place) -> Iterator[str]:
    """Yield in what an index differs: its columns, and which rows it holds."""
    found = _INDEX.fullmatch(was)
    if found is None:
        yield f"!cannot read {was!r}"
    elif not at:
        yield "there is no such index"
    else:
        there = place.indexes | _aside(at, place)
        yield from _each(at, place, there, partial(_one_index_differences, found, place), "index")


def _aside(names: tuple[str, ...], place: Place) -> dict[str, Index]:
    """Return the indexes of other tables, which are named by schema, table and index."""
    found = {}
    for name in names:
        table, _, index = name.rpartition(".")
        if table and (there := place.catalogue.indexes(table).get(index)):
            found[name] = there
    return found


def _each(
    names: tuple[str, ...],
    place: Place,
    there: Mapping[str, T],
    differences: Callable[[str, T], Iterator[str]],
    kind: str = "rule",
) -> Iterator[str]:
    for name in names:
        if name in there:
            yield from differences(name, there[name])
        elif name in place.catalogue.things:
            yield f"it is {name}"
        else:
            yield f"!there is no {kind} {name}"


def _key_differences(asked: re.Match[str], place: Place, name: str, index: Index) -> Iterator[str]:
    wanted = [place.names.get(each, each) for each in asked["columns"].split(", ")]
    if not index.is_unique:
        yield f"{name} is not unique"
    if index.columns not in (wanted, ["tenant_id", *wanted]):
        yield f"{name} is over {', '.join(index.columns)}"
    if index.nulls_are_alike:
        yield f"{name} takes NULL once"
    yield from _where_differences(asked["where"], place, name, index)


def _one_index_differences(asked: re.Match[str], place: Place, name: str, index: Index) -> Iterator[str]:
    wanted = [_indexed(each, place.names) for each in asked["columns"].split(", ")]
    bare = [each.lower().replace(" desc", "") for each in index.columns]
    if wanted not in (bare, bare[1:] if bare[:1] == ["tenant_id"] else bare):
        yield f"{name} is over {', '.join(index.columns)}"
    yield from _where_differences(asked["where"], place, name, index)


def _indexed(column: str, names: dict[str, str]) -> str:
    plain = column.strip().lower().replace(" desc", "").replace(" asc", "")
    return names.get(plain, plain)


def _where_differences(asked: str | None, place: Place, name: str, index: Index) -> Iterator[str]:
    """Compare which rows an index holds."""
    try:
        wanted = place.parsed(asked) if asked else set()
    except psycopg.Error:
        yield f"!cannot read {asked!r}"
        return
    if wanted != (conjuncts(index.where) if index.where else set()):
        yield f"{name} holds {f'rows WHERE {index.where}' if index.where else 'all rows'}"


def _reference_differences(asked: re.Match[str], place: Place, name: str, key: Constraint) -> Iterator[str]:
    """Compare where a foreign key points, over what, and what it does at a deletion where the design says so."""
    own = place.names.get(asked["column"], asked["column"])
    if asked["table"] not in place.tables:
        yield f"!no table {asked['table']} is in the map"
    elif key.kind != "f":
        yield f"{name} is no foreign key"
    else:
        if key.target != place.tables[asked["table"]] or key.target_columns[0] != "id":
            yield f"{name} points to {key.target} ({', '.join(key.target_columns)})"
        if key.columns not in ([own], [own, "tenant_id"]):
            yield f"{name} is over {', '.join(key.columns)}"
        emptied = [own] if key.action == "n" and len(key.columns) > 1 else []  # or the tenant would be, too
        if asked["action"] and (_ACTIONS[asked["action"]], emptied) != (key.action, key.emptied):
            yield f"{name} does {key.definition.partition(' ON DELETE ')[2] or 'NO ACTION'} at a deletion"


def _check_differences(condition: str, at: tuple[str, ...], place: Place) -> Iterator[str]:
    """Compare each condition, bound and member of a closed set."""
    try:
        asked = place.parsed(condition)
    except psycopg.Error:
        yield f"!cannot read {condition!r}"
        return
    there: set[str] = set()
    subject = re.search(r"\w+", min(asked))
    for name in at:
        texts = [text.replace("VALUE", subject[0] if subject else "") for text in _texts(name, place)]
        if not texts:
            yield f"it is {name}" if name in place.catalogue.things else f"!there is no rule {name}"
            return
        there |= {part for text in texts for part in conjuncts(text)}
    yield from _set_differences(asked, {part for part in there if not _ASIDE.fullmatch(part)})


def _texts(name: str, place: Place) -> list[str]:
    """Return what a constraint says, or a domain, or a partition, by schema and name."""
    if name in place.constraints:
        return [place.constraints[name].definition]
    return place.catalogue.bounds(name) if "." in name else []


def _set_differences(asked: set[str], there: set[str]) -> Iterator[str]:
    wanted, listed = _closed_sets(asked), _closed_sets(there)
    for subject in wanted.keys() & listed.keys():
        if lacking := wanted[subject] - listed[subject]:
            yield f"does not name {', '.join(sorted(lacking))}"
        if more := listed[subject] - wanted[subject]:
            yield f"names {', '.join(sorted(more))} besides"
    both = wanted.keys() & listed.keys()
    for text, parts in (("does not hold", asked - there), ("holds besides", there - asked)):
        told = sorted(part for part in parts if (found := members(part)) is None or found[0] not in both)
        yield from (f"{text} {part}" for part in told)


def _closed_sets(parts: set[str]) -> dict[str, set[str]]:
    """Return the members of what a condition closes, those of several partitions together."""
    found: dict[str, set[str]] = {}
    for subject, values in filter(None, map(members, parts)):
        found.setdefault(subject, set()).update(values)
    return found
