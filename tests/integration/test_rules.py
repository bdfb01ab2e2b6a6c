"""Every rule of the data model is broken once, and the database names it: checks, keys, references, what is required.

The rules are read from the models, which tests/integration/test_models.py holds against the database: a check without
values that break it, here or in tests/support/rules.py, fails `test_every_check_is_broken`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import (
    CheckConstraint,
    Column,
    Constraint,
    Float,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    make_url,
)

from db.embedded import EmbeddedServer
from db.models import Base
from tests.support.database import Database, cloned
from tests.support.factory import Factory, Row, partition_key, table, valid
from tests.support.rules import BREAKS, HIDDEN

# The queue's rules are the engine's, with tests of their own (tests/integration/queue), but for what operators write.
WRITTEN = {"queue.fires", "queue.schedules"}
# Its row is there from the beginning and no other is taken, so what is said of rows that come does not suit it.
ONE_ROW = "ops.installation"
TABLES = sorted(
    name
    for each in Base.metadata.tables.values()
    for name in [f"{each.schema}.{each.name}"]
    if name != ONE_ROW and (each.schema != "queue" or name in WRITTEN)
)
Shared = tuple[Database, Factory, Factory]
_PREPARER = make_url("postgresql+psycopg://").get_dialect()().identifier_preparer
# What the parts of a partitioned table's key are called has to do with the part; the rule is the table's.
_RULE = """
WITH RECURSIVE rule (oid, name, parent) AS (
    SELECT c.oid, c.conname, c.conparentid FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
    WHERE c.conname = %s AND r.relname = %s AND r.relnamespace = %s::regnamespace
    UNION ALL SELECT c.oid, c.conname, c.conparentid FROM rule JOIN pg_constraint c ON c.oid = rule.parent
) SELECT name FROM rule WHERE parent = 0
"""
_LEAF = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass LIMIT 1
"""


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Shared]:
    """A database and makers of two tenants' rows."""
    with cloned(server_without_fsync, template_database) as database:
        owner = database.connect()
        ours = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('A', 'a') RETURNING id")
        theirs = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
        yield database, Factory(owner, ours), Factory(owner, theirs)


def named(constraint: Constraint) -> str:
    """Return a constraint's name as the database has it: a long one is cut."""
    return str(_PREPARER.format_constraint(constraint))


def constraints(name: str) -> list[Constraint]:
    """Return a table's constraints, in the same order each time."""
    return sorted(table(name).constraints, key=lambda each: str(each.name))


def checks(name: str) -> list[CheckConstraint]:
    return [each for each in constraints(name) if isinstance(each, CheckConstraint)]


def breaking(name: str, constraint: CheckConstraint) -> Row | None:
    """Return values that break a check, or None where nobody knows."""
    if constraint.name in BREAKS:
        return BREAKS[str(constraint.name)]
    for column in table(name).columns:
        if constraint.name == f"{table(name).name}_{column.name}_range_check":
            return {column.name: "infinity"}
        if constraint.name == f"{table(name).name}_{column.name}_check":
            value = _broken(column, column.info.get("check", ""))
            return None if value is None else {column.name: value}
    return None


def _broken(column: Column[Any], check: str) -> Any:
    for shape, value in _SHAPES:
        if re.search(shape, check):
            return value
    if found := re.search(r"length\(\{0\}\) (?:<= |BETWEEN \d+ AND )(\d+)", check):
        return "x" * (int(found[1]) + 1)
    if found := re.search(r"^\{0\} BETWEEN (\d+) AND", check):
        return (float if isinstance(column.type, Float) else int)(found[1]) - 1
    return None


_SHAPES: tuple[tuple[str, Any], ...] = (
    (r"IN \(|@|\^\[a-z0-9\]", "no such value"),
    (r"^length\(\{0\}\) = \d+$", b"x"),
    (r"^\{0\} <> ''$", ""),
    (r"^vector_norm\(\{0\}\) > 0$", "[0]"),
    (r"'array'", {}),
    (r"'object'", []),
    (r"\{0\} >= 0", -1),
    (r"\{0\} > 0", 0),
    (r"\{0\} >= 1", 0),
)


def _alone(name: str, constraint: CheckConstraint) -> list[sql.SQL | sql.Composed]:
    """Return what lets the check of a time's range be asked by itself: others compare that time with further ones."""
    if not str(constraint.name).endswith("_range_check"):
        return _hiding(named(constraint))
    relation = sql.Identifier(*name.split("."))
    others = (sql.Identifier(named(each)) for each in checks(name) if each is not constraint)
    dropped = [sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(relation, each) for each in others]
    return [sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(relation), *dropped]


def _hiding(rule: str) -> list[sql.SQL | sql.Composed]:
    return [HIDDEN[rule]] if rule in HIDDEN else []


@contextmanager
def _altered(factory: Factory, *statements: sql.SQL | sql.Composed) -> Iterator[None]:
    """Have a table altered meanwhile."""
    with factory.owner.transaction(force_rollback=True):
        for statement in statements:
            factory.owner.execute(statement)
        yield


@pytest.mark.parametrize("name", TABLES)
def test_a_row_with_what_is_required_is_taken(shared: Shared, name: str) -> None:
    assert shared[1].row(name)


def test_every_check_is_broken() -> None:
    everything = [(name, each) for name in TABLES for each in checks(name)]
    assert [(name, each.name) for name, each in everything if breaking(name, each) is None] == []
    assert BREAKS.keys() - {each.name for _, each in everything} == set()


@pytest.mark.parametrize(
    ("name", "constraint"),
    [pytest.param(name, each, id=str(each.name)) for name in TABLES for each in checks(name)],
)
def test_a_check_is_named(shared: Shared, name: str, constraint: CheckConstraint) -> None:
    _, ours, _ = shared
    values = ours.values(name, **(breaking(name, constraint) or {}))
    with pytest.raises(psycopg.errors.CheckViolation) as caught, _altered(ours, *_alone(name, constraint)):
        ours.insert(name, values)
    assert caught.value.diag.constraint_name == named(constraint)


@pytest.mark.parametrize("name", TABLES)
def test_what_is_required_is_named(shared: Shared, name: str) -> None:
    database, ours, _ = shared
    values, key = ours.values(name), partition_key(table(name))
    for column in table(name).columns:
        if column.nullable or column.computed is not None:  # what is computed is so of columns that are required
            continue
        leaf = database.value(_LEAF, (name,)) if key and column.name == key[1] else None
        aside = _of_a_leaf(table(name).schema or "", leaf) if leaf else _hiding(f"{name}.{column.name}")
        with pytest.raises(psycopg.errors.NotNullViolation) as caught, _altered(ours, *aside):
            ours.insert(name, values | {column.name: None}, leaf=leaf)
        assert caught.value.diag.column_name == column.name


def _of_a_leaf(schema: str, leaf: str) -> list[sql.SQL | sql.Composed]:
    """Return what lets a partition be asked itself: NULL finds none, so that its table does not come to this rule."""
    statements = (sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER"), sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY"))
    return [statement.format(sql.Identifier(schema, leaf)) for statement in statements]


def references(name: str) -> list[ForeignKeyConstraint]:
    return [each for each in constraints(name) if isinstance(each, ForeignKeyConstraint)]


@pytest.mark.parametrize(
    ("name", "constraint"),
    [pytest.param(name, each, id=str(each.name)) for name in TABLES for each in references(name)],
)
def test_a_reference_to_nothing_and_to_another_tenant_is_named(
    shared: Shared, name: str, constraint: ForeignKeyConstraint
) -> None:
    _, ours, theirs = shared
    columns = [element.parent for element in constraint.elements if element.parent.name != "tenant_id"]
    wanted = [{column.name: valid(column) for column in columns} or {"tenant_id": uuid4()}]
    # A tenant's row is referred to with its tenant; where it is not, a trigger looks.
    if columns and ("tenant_id" in constraint.columns or columns[0].name in {"message_id", "mcp_server_id"}):
        foreign = theirs.values(name)
        wanted.append({column.name: foreign.get(column.name) or theirs.value(column) for column in columns})
    for is_theirs, given in enumerate(wanted):
        own = {"tenant_id": ours.tenant_id} if columns and "tenant_id" in constraint.columns else {}
        values = ours.values(name, **given, **own)
        with (
            pytest.raises(psycopg.errors.ForeignKeyViolation) as caught,
            _altered(ours, *_in_the_way(name, constraint, given, is_theirs=bool(is_theirs))),
        ):
            ours.insert(name, values)
        assert caught.value.diag.constraint_name == named(constraint)


def _in_the_way(
    name: str, constraint: ForeignKeyConstraint, given: Row, *, is_theirs: bool
) -> Iterator[sql.SQL | sql.Composed]:
    """Yield what lets a reference be refused by itself: other rules of the table refuse its row before."""
    yield from _hiding(named(constraint))
    relation = sql.Identifier(*name.split("."))
    if "tenant_id" not in constraint.columns and not is_theirs:  # a trigger speaks in the key's name
        yield sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(relation)
    if list(given) == ["tenant_id"]:  # what refers to a row of that tenant
        for each in references(name):
            if each is not constraint and "tenant_id" in each.columns:
                yield sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(relation, sql.Identifier(named(each)))
    if partition_key(table(name)) == ("LIST", *given):  # there is no partition for what there is not
        values = (sql.Identifier(table(name).schema or "", "of_nothing"), relation, sql.Literal(str(*given.values())))
        yield sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES IN ({})").format(*values)


def uniques(name: str) -> Iterator[tuple[str, list[Column[Any]], str, bool]]:
    """Yield the names, columns and predicates of a table's unique keys, and whether NULLs are alike in them.

    Left out is what contains the primary key, as (id, tenant_id) and (id, created_at, tenant_id) do: it serves
    references, and nobody takes it twice without taking the primary key twice, which is refused first.
    """
    primary = set(table(name).primary_key.columns)
    for each in constraints(name):
        if not isinstance(each, PrimaryKeyConstraint | UniqueConstraint):
            continue
        columns = list(each.columns)
        if not primary < set(columns):
            yield named(each), columns, "", bool(each.dialect_options["postgresql"].get("nulls_not_distinct"))
    for index in sorted(table(name).indexes, key=lambda index: str(index.name)):
        if index.unique:
            options = index.dialect_options["postgresql"]
            where = options["where"]
            yield (
                str(index.name),
                list(index.columns),
                "" if where is None else str(where),
                bool(options["nulls_not_distinct"]),
            )


@pytest.mark.parametrize(
    ("name", "constraint", "columns", "predicate", "nulls_alike"),
    [pytest.param(name, *each, id=each[0]) for name in TABLES for each in uniques(name)],
)
def test_a_key_taken_twice_is_named(
    shared: Shared, name: str, constraint: str, columns: list[Column[Any]], predicate: str, nulls_alike: bool
) -> None:
    database, ours, _ = shared
    given = _satisfying(predicate, table(name))
    values = ours.values(name, **given)
    missing = [column for column in columns if column.nullable and column.name not in values and not nulls_alike]
    first = ours.insert(name, values | {column.name: ours.value(column) for column in missing})
    again = ours.values(name, **(given | {column.name: first[column.name] for column in columns}))
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        ours.insert(name, again)
    diag = caught.value.diag
    found = database.rows(_RULE, (diag.constraint_name, diag.table_name, diag.schema_name))
    assert (found[0][0] if found else diag.constraint_name) == constraint


def _satisfying(predicate: str, of: Table) -> Row:
    found: Row = {}
    for part in filter(None, predicate.split(" AND ")):
        if equal := re.fullmatch(r"(\w+) = '([^']*)'", part):
            found[equal[1]] = equal[2]
        elif filled := re.fullmatch(r"(\w+) IS NOT NULL", part):
            found[filled[1]] = valid(of.columns[filled[1]])
        elif re.fullmatch(r"is_\w+", part):
            found[part] = True
        elif unset := re.fullmatch(r"NOT (is_\w+)", part):
            found[unset[1]] = False
        else:
            assert part.endswith(" IS NULL"), part
    return found


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("(is_only) VALUES (false)", "installation_is_only_check"),
        ("DEFAULT VALUES", "installation_is_only_key"),
        ("(created_at) VALUES ('infinity')", "installation_created_at_range_check"),
    ],
)
def test_an_installation_is_one_row(shared: Shared, row: str, rule: str) -> None:
    with pytest.raises(psycopg.IntegrityError) as refused:
        shared[0].rows(f"INSERT INTO {ONE_ROW} {row}")
    assert refused.value.diag.constraint_name == rule
    assert shared[0].value("SELECT count(*) FROM ops.installation") == 1
