"""Rows that are equal to the byte, of a table without a key: as many leave it, and as many come back."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.retention.restoring import task as restoring
from tests.support.archives import printed, small_pages
from tests.support.database import Database
from tests.support.restoring import Shelf
from tests.support.retention_runs import hold

ATTEMPTS = "queue.attempts"
ADD = """
INSERT INTO queue.attempts (task_id, claim_number, number, outcome, started_at, ended_at, error)
SELECT (%s || '-0000-7000-8000-000000000000')::uuid, 1, 1, 'retry', '2020-02-03 00:00+00', '2020-02-03 00:00+00', %s
FROM generate_series(1, %s)
"""
HELD = "0000000f"


@pytest.fixture
def shelf(database: Database, tmp_path: Path) -> Iterator[Shelf]:
    """A table with a month of attempts, and a hold on one of them, so that they go page by page and not as a month."""
    shelf = Shelf(database, tmp_path)
    shelf.make_month(ATTEMPTS)
    hold(database, ATTEMPTS, "ended_at", filter={"task_id": f"{HELD}-0000-7000-8000-000000000000"})
    try:
        yield shelf
    finally:
        shelf.line.close()


def attempt(shelf: Shelf, task: str, error: str = "e", count: int = 1) -> None:
    """Write so many equal attempts."""
    shelf.database.rows(ADD, (task, error, count))


def months(shelf: Shelf) -> Counter[str]:
    """Return the rows of the table, but for attempts of this test's own tasks."""
    return Counter({row: count for row, count in printed(shelf.database, ATTEMPTS).items() if "2020-02" in row})


def archive(shelf: Shelf) -> None:
    """Archive all but what is held, in pages of one block."""
    with small_pages():
        shelf.archive(ATTEMPTS, "ended_at")


def test_equal_rows_come_back_as_often_as_they_were(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "_MOST", 1)
    attempt(shelf, HELD)
    attempt(shelf, "00000001", count=2)
    attempt(shelf, "00000002", "e" * 2000, count=12)  # of several blocks, so of several pages
    attempt(shelf, "00000003")
    before = months(shelf)
    archive(shelf)
    assert months(shelf).total() == 1
    assert shelf.database.rows("SELECT left_behind FROM ops.archives") == [([],)]
    assert shelf.restored(ATTEMPTS)["restored"] == 15
    assert months(shelf) == before
    again = shelf.restored(ATTEMPTS)
    assert (again["restored"], again["there"], again["different"]) == (0, 15, 0)
    assert months(shelf) == before


def test_of_equal_rows_those_that_are_missing_come_back(shelf: Shelf) -> None:
    attempt(shelf, HELD)
    attempt(shelf, "00000001", count=3)
    attempt(shelf, "00000001", "another")
    before = months(shelf)
    archive(shelf)
    attempt(shelf, "00000001", count=2)
    came = shelf.restored(ATTEMPTS)
    assert (came["restored"], came["there"], came["different"]) == (2, 2, 0)
    assert months(shelf) == before


def test_a_row_of_which_one_more_came_since_leaves_that_one(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt(shelf, HELD)
    attempt(shelf, "00000001", count=2)
    from db import archives

    real, added = archives.empty, list[int]()

    def empty(*given: Any) -> set[int] | None:
        if not added:
            added.append(1)
            attempt(shelf, "00000001")
        return real(*given)

    monkeypatch.setattr(archives, "empty", empty)
    archive(shelf)
    assert sorted(shelf.database.rows("SELECT row_count::int, rows_deleted::int, left_behind FROM ops.archives")) == [
        (1, 1, []), (2, 2, []),
    ]  # fmt: skip
    assert months(shelf).total() == 1
