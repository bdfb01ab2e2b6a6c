"""Each design that the data model serves has its place in it, whole: the maps in docs/coverage, held against both."""

import copy
from typing import Any

import pytest

from tests.support.coverage import OBJECTS, Catalogue, designs, faults, load, sizes
from tests.support.database import Database

KINDS = ("tables", "columns", "rules", "indexes", *OBJECTS)
# How much each design asks for, in that order: counted in the designs, so that nothing leaves a map unseen.
SIZES = {
    "000": (18, 170, 55, 58, 0, 0, 0, 0, 10, 13),
    "001": (10, 84, 22, 15, 0, 0, 3, 0, 2, 1),
    "002": (14, 85, 19, 21, 7, 3, 4, 3, 3, 10),
    "003": (12, 111, 22, 37, 4, 0, 2, 3, 5, 14),
    "004": (25, 310, 75, 85, 1, 0, 0, 22, 2, 46),
}


def counted(design: dict[str, Any]) -> tuple[int, ...]:
    found = sizes(design)
    return tuple(found[kind] for kind in KINDS)


def found(design: dict[str, Any], database: Database) -> list[str]:
    return list(faults(design, Catalogue(database)))


def test_every_design_has_its_map() -> None:
    assert {design: counted(load(design)) for design in designs()} == SIZES


@pytest.mark.parametrize("design", designs())
def test_a_design_has_its_place(database: Database, design: str) -> None:
    assert found(load(design), database) == []


def test_a_table_that_leaves_a_map_and_a_column_that_leaves_the_database_are_missed(database: Database) -> None:
    design = copy.deepcopy(load("000"))
    database.rows("ALTER TABLE tools.tools DROP COLUMN category CASCADE")
    assert "tools: category: there is no column category" in found(design, database)
    del design["tables"]["tools"]
    assert counted(design) != SIZES["000"]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("integer PRIMARY KEY", "is uuid, not integer, its default is ops.uuid_v7(), and no reason is given"),
        ({"was": "uuid PRIMARY KEY DEFAULT gen_random_uuid()", "why": "x"}, "a reason is given, and nothing differs"),
        ({"was": "uuid PRIMARY KEY", "is": "identity.users.key", "why": "x"}, "there is no identity.users.key"),
        ({"was": "uuid, whatever", "why": "x"}, "cannot read 'uuid, whatever'"),
    ],
)
def test_what_a_map_gets_wrong_is_said(database: Database, column: Any, told: str) -> None:
    design = {"tables": {"users": {"is": "identity.users", "columns": {"id": column}}}}
    assert found(design, database) == [f"users: id: {told}"]


def test_rules_indexes_and_objects_that_are_not_there_are_said(database: Database) -> None:
    table = {
        "is": "identity.users",
        "rules": {
            "UNIQUE (email)": "users_nothing_key",
            "CHECK (role IN ('admin', 'king'))": "users_role_check",
            "FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE SET NULL": "users_tenant_id_fkey",
        },
        "indexes": {"idx_role (role)": "users_role_idx", "idx_name (name)": "users_role_idx", "odd": "users_role_idx"},
    }
    views = {"users_view": {"is": "identity.users_view", "test": "tests/integration/test_coverage.py::test_nothing"}}
    said = found({"tables": {"users": table}, "views": views}, database)
    assert said == [
        "users: UNIQUE (email): there is no rule users_nothing_key",
        "users: CHECK (role IN ('admin', 'king')): users_role_check does not name king, and no reason is given",
        "users: FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE SET NULL: users_tenant_id_fkey does otherwise at a"
        " deletion, and no reason is given",
        "users: idx_name (name): users_role_idx is over tenant_id, role, and no reason is given",
        "users: odd: cannot read 'odd'",
        "views: users_view: there is no identity.users_view",
        "views: users_view: there is no test tests/integration/test_coverage.py::test_nothing",
    ]
