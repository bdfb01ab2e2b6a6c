"""docs/data-model.md names the owner of every counter: no column that looks like one is without."""

import re
from pathlib import Path

from sqlalchemy import BigInteger, DateTime, Integer

from db.counters import Counter
from db.models import Base

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-model.md"
_LOOKS = re.compile(r"_(count|total|completed)$|^(last|used|usage|total|steps)_")
_NAME = re.compile(r"`([a-z]+\.[a-z_]+\.[a-z_]+)`")


def section() -> str:
    """Return what the page says of counters."""
    [found] = re.findall(r"^## Counters\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_column_that_looks_like_a_counter_is_named() -> None:
    looks = {
        f"{table.schema}.{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if table.schema != "queue"  # the engine's own, each written where docs/state-machine.md says
        and _LOOKS.search(column.name)
        and isinstance(column.type, BigInteger | DateTime | Integer)
    }
    assert len(looks) > 30
    assert set(_NAME.findall(section())) == looks


def test_every_counter_that_is_reconciled_has_its_owner() -> None:
    rows = [line for line in section().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in _NAME.findall(row.split("|")[1])} == {
        *Counter,
        "billing.tenant_quotas.used_since",
    }
    assert all(len(row.split("|")) == 6 and all(cell.strip() for cell in row.split("|")[1:5]) for row in rows)
