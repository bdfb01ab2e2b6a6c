"""Whether a database is what this program expects: what somebody changed by hand, or a migration forgot.

`catalogue.txt` has a line for each object of a database that is migrated and not touched since: kind, place, name,
definition. Partitions of run time, months and spaces of vectors, have no lines: they go by rules. Schemas and tables
that are not Greenroom's are not looked at; what is in Greenroom's schemas is, whoever made it. Typed calls over
`sql/drift.sql`.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import NamedTuple

from db.connection import Connection, connect
from db.queries import Queries
from db.schema import current_revision, require_revision

QUERIES = Queries("drift")
CATALOGUE = "catalogue.txt"
_FACTS = (
    "tables",
    "row_security",
    "columns",
    "constraints",
    "indexes",
    "policies",
    "triggers",
    "functions",
    "grants",
)
# What is defined by a digest has nothing to show; what is told of it says that it is another.
_DIGESTED = {"function", "view"}
# Each is a property of something else, whose absence is told already.
_PROPERTIES = {"row security", "trigger state"}
_HOLDERS = {"table", "view", "sequence", "function"}


# The schema of a name is written only where it is not in the search path.
_WRITTEN_BY = {"search_path": "pg_catalog", "TimeZone": "UTC", "DateStyle": "ISO"}


class Object(NamedTuple):
    """What a definition is of: its kind, the table, view or function it is on or is, and its name there."""

    kind: str
    place: str
    name: str


Catalogue = Mapping[Object, str]


def differences(url: str) -> list[str]:
    """Return what differs between a database and this program, a sentence each; any login of ours may ask.

    Raises UnavailableError, and SchemaError where the schema's revision is not this program's.
    """
    expected = expected_catalogue()
    schemas = sorted({each.place.partition(".")[0] for each in expected} - {"public"})
    with connect(url, name="check") as connection:
        require_revision(current_revision(connection))
        there = catalogue(connection, schemas)
        return [*compared(expected, there), *_loose_partitions(connection, schemas)]


def expected_catalogue() -> Catalogue:
    """Return what the packaged file says."""
    lines = resources.files("db").joinpath(CATALOGUE).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return {Object(kind, place, name): definition for kind, place, name, definition in rows}


def catalogue_text(connection: Connection) -> str:
    """Return the file's text, from a database that holds nothing but Greenroom's schemas, migrated and not touched."""
    schemas = [name for (name,) in QUERIES.run(connection, "schemas")]
    return "".join("\t".join((*each, text)) + "\n" for each, text in sorted(catalogue(connection, schemas).items()))


def catalogue(connection: Connection, schemas: list[str]) -> Catalogue:
    """Return what a database has in these schemas, and public.alembic_version.

    Sets the session's search path, time zone and style of dates: the server writes definitions by them.
    """
    for name, value in _WRITTEN_BY.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    found = [row for name in _FACTS for row in QUERIES.run(connection, name, {"schemas": schemas})]
    return {Object(kind, place, name): " ".join(definition.split()) for kind, place, name, definition in found}


def compared(expected: Catalogue, there: Catalogue) -> list[str]:
    """Return in what two differ, a sentence each, by their places; what is on something that lacks is not told."""
    differing = {each for each in expected.keys() | there.keys() if expected.get(each) != there.get(each)}
    strange = {_place(each) for each in differing if not (each in expected and each in there)} - {""}
    return [
        line
        for each in sorted(differing, key=lambda each: (each.place, each))
        if each.kind in _HOLDERS or not _holders(each) & strange
        for line in _sentences(each, expected.get(each), there.get(each))
    ]


def _place(each: Object) -> str:
    """Return by which place others name a table, view, function or column; nothing else is a place."""
    if each.kind == "column":
        return f"column {each.place}.{each.name}"
    return each.place if each.kind in _HOLDERS else ""


def _holders(each: Object) -> set[str]:
    return {each.place, each.place.removeprefix("column ").rpartition(".")[0]}


def _sentences(each: Object, expected: str | None, there: str | None) -> Iterator[str]:
    named = f"{each.kind} {'to ' if each.kind == 'grant' else ''}{each.name}" if each.name else each.kind
    if each.kind in _PROPERTIES:
        if expected is not None and there is not None:
            what = f"trigger {each.name} on" if each.kind == "trigger state" else "row security of"
            yield f"{what} {each.place} is {there}, not {expected}"
    elif there is None:
        yield f"{named} is missing on {each.place}" if each.name else f"{named} {each.place} is missing"
    elif expected is None:
        shown = f": {there}" if each.kind in {"grant", "policy"} else ""
        yield f"{named}{' on' if each.name else ''} {each.place} is in the database alone{shown}"
    elif each.kind in _DIGESTED:
        yield f"{named} {each.place} is not what this program made"
    else:
        yield f"{named}{' on' if each.name else ''} {each.place} is {there}, not {expected}"


def _loose_partitions(connection: Connection, schemas: list[str]) -> list[str]:
    return [line for (line,) in QUERIES.run(connection, "loose_partitions", {"schemas": schemas})]
