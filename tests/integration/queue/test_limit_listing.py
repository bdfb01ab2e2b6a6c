"""What is left in the buckets of a limit that holds for each by itself, and what goes with a limit."""

import pytest

from db import limits
from tests.support.database import Database

LIMITS = """
INSERT INTO queue.limits (kind, name, rate, rate_seconds, burst)
VALUES ('key', '*', 1, 3600, 10), ('key', 'a', 1, 3600, 10), ('queue', '*', 1, 3600, 10)
"""
BUCKETS = """
INSERT INTO queue.limit_tokens (kind, name, tokens, refilled_at)
VALUES ('key', 'a', 5, now()), ('key', 'b', 2, now()), ('queue', 'a', 1, now())
"""


@pytest.fixture
def limited(database: Database) -> Database:
    """Limits on each key and on one, and on each queue; buckets of two keys and of a queue."""
    database.rows(LIMITS)
    database.rows(BUCKETS)
    return database


def test_a_limit_on_each_shows_the_emptiest_bucket_and_a_limit_on_one_its_own(limited: Database) -> None:
    found = {(row.kind, row.name): row.tokens for row in limits.limits(limited.connect("operator"))}
    assert {name: round(tokens or 0) for name, tokens in found.items()} == {
        ("key", "*"): 2,
        ("key", "a"): 5,
        ("queue", "*"): 1,
    }


@pytest.mark.parametrize(("name", "kept"), [("a", {"key b", "queue a"}), ("*", {"queue a"})])
def test_with_a_limit_its_buckets_go(limited: Database, name: str, kept: set[str]) -> None:
    assert limits.remove_limit(limited.connect("operator"), "key", name)
    assert {f"{kind} {of}" for kind, of in limited.rows("SELECT kind, name FROM queue.limit_tokens")} == kept
