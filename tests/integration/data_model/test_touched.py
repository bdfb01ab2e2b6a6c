"""`updated_at`, in every table that has it: the database dates a change, whatever its writer says."""

import pytest

from db.models import Base
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.tenants import is_dated

# The queue's rows are dated by its own statements, which tests/integration/queue looks at.
TABLES = sorted(
    f"{table.schema}.{table.name}"
    for table in Base.metadata.tables.values()
    if "updated_at" in table.columns and table.schema != "queue"
)
TOUCHED = """
SELECT DISTINCT t.tgrelid::regclass::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = 'touch' AND c.relnamespace <> 'queue'::regnamespace ORDER BY 1
"""


def test_every_table_with_a_date_of_change_has_who_keeps_it(shared: Database) -> None:
    assert [table for (table,) in shared.rows(TOUCHED)] == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_a_change_is_dated_whatever_its_writer_says(ours: Factory, table: str) -> None:
    assert is_dated(ours.owner, table, ours.row(table)["id"])
