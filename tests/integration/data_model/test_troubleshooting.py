"""The queries that docs/data-model.md gives to operators run as an operator."""

import re
from pathlib import Path
from uuid import UUID

import pytest

from db.connection import bind_tenant
from tests.support.database import Database

PAGE = Path(__file__).parents[3] / "docs" / "data-model.md"
[SQL] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
PLAIN = re.sub(r"^--.*$", "", SQL, flags=re.MULTILINE)
QUERIES = [" ".join(query.split()) for query in PLAIN.split(";") if query.strip()]


@pytest.mark.parametrize("query", QUERIES)
def test_an_operator_may_ask(database: Database, query: str) -> None:
    operator = database.connect("operator")
    with operator.transaction():
        bind_tenant(operator, UUID("00000000-0000-7000-8000-000000000001"))
        assert operator.execute(query.encode()).description


def test_there_are_queries() -> None:
    assert len(QUERIES) > 6
