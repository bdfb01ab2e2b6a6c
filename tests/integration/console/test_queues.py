"""`greenroom queues`: pauses that end by themselves, limits that are set, shown and removed while all runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.console.test_tasks import audited
from tests.support.command import Inline
from tests.support.waiting import eventually


def queue(inline: Inline, name: str) -> dict[str, Any]:
    [row] = [row for row in inline.json("queues", "list")["queues"] if row["name"] == name]
    found: dict[str, Any] = row
    return found


@pytest.fixture(autouse=True)
def no_limits(inline: Inline) -> Iterator[None]:
    """Leave the others' engine without limits."""
    yield
    words = {"queue": "queue", "task_type": "type", "tenant": "tenant", "key": "key"}
    for row in inline.json("queues", "list")["limits"]:
        inline.ok("queues", "limit", row["name"], "--per", words[row["kind"]], "--remove")


def test_a_pause_ends_by_itself(inline: Inline, home: Path) -> None:
    said = inline.ok("queues", "pause", "documents", "--for", "3s")
    assert said.startswith("documents: paused until ")
    assert queue(inline, "documents")["resume_at"]
    assert "paused until" in inline.ok("queues", "list")
    eventually(lambda: queue(inline, "documents")["paused_at"] is None, 10)
    assert "open" in inline.ok("queues", "show", "documents")
    assert audited(home, "documents")[-1] == "queue.paused", "nobody resumed it"


def test_a_pause_may_name_its_end(inline: Inline) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    [row] = [
        row for row in inline.json("queues", "pause", "documents", "--until", until.isoformat())["queues"]
    ]  # fmt: skip
    assert datetime.fromisoformat(row["resume_at"]) == until
    [row] = inline.json("queues", "resume", "documents")["queues"]
    assert (row["paused_at"], row["resume_at"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("--for", "1s", "--until", "10"), "give one of them"),
        (("--for", "soon"), "write 90s, 30min, 2h or 1d"),
        (("--for", "0s"), "write 90s, 30min, 2h or 1d"),
        (("--until", "2020-01-01T00:00:00Z"), "is past"),
        (("--until", "tomorrow"), "is no time"),
    ],
)
def test_a_pause_that_cannot_be_is_refused(inline: Inline, arguments: tuple[str, ...], advice: str) -> None:
    done = inline.run("queues", "pause", "documents", *arguments)
    assert done.returncode == 2
    assert advice in done.stderr
    assert queue(inline, "documents")["paused_at"] is None


def test_a_limit_is_set_changed_shown_and_removed(inline: Inline, home: Path) -> None:
    assert inline.ok("queues", "limit", "documents", "--concurrency", "3") == "queue documents: 0 of 3 at once\n"
    inline.ok("queues", "limit", "documents", "--rate", "300/2min")
    [row] = inline.json("queues", "show", "documents")["limits"]
    kept = {name: row[name] for name in ("kind", "name", "concurrency", "rate", "rate_seconds", "burst", "occupied")}
    assert kept == {
        "kind": "queue", "name": "documents", "concurrency": 3, "rate": 300, "rate_seconds": 120, "burst": 3,
        "occupied": 0,
    }  # fmt: skip
    assert "0 of 3 at once; 300 in 120 s" in inline.ok("queues", "list")
    assert inline.json("queues", "show", "embedding")["limits"] == []
    assert inline.ok("queues", "limit", "documents", "--remove") == "queue documents: no limit\n"
    assert audited(home, "queue:documents") == ["limit.set", "limit.set", "limit.removed"]


def test_each_kind_of_limit_can_be_set(inline: Inline) -> None:
    inline.ok("queues", "limit", "*", "--concurrency", "50")
    inline.ok("queues", "limit", "document.ingest", "--per", "type", "--concurrency", "4")
    inline.ok("queues", "limit", "*", "--per", "tenant", "--rate", "10/s", "--burst", "20")
    inline.ok("queues", "limit", "openai", "--per", "key", "--rate", "1000/h", "--concurrency", "2")
    found = [(row["kind"], row["name"]) for row in inline.json("queues", "list")["limits"]]
    assert found == [("queue", "*"), ("task_type", "document.ingest"), ("tenant", "*"), ("key", "openai")]


@pytest.mark.parametrize(
    ("arguments", "status", "advice"),
    [
        (("documents",), 2, "how many at once (concurrency), how often (rate)"),
        (("documents", "--concurrency", "0"), 2, "pause the queue instead"),
        (("documents", "--concurrency", "-3"), 2, "pause the queue instead"),
        (("documents", "--rate", "0/s"), 2, "pause the queue instead"),
        (("documents", "--rate", "fast"), 2, "write 10/s, 300/min"),
        (("documents", "--rate", "5/0s"), 2, "its time is zero"),
        (("documents", "--rate", "9999999/s"), 2, "at most 1,000,000"),
        (("documents", "--rate", "5/s", "--burst", "0"), 2, "at least 1"),
        (("documents", "--concurrency", "3000000000"), 2, "at most 1,000,000"),
        (("documents", "--rate", "5/s", "--burst", "3000000000"), 2, "at most 1,000,000"),
        (("documents", "--rate", "1/400d"), 2, "at most a year"),
        (("documents", "--burst", "5"), 2, "give --rate too"),
        (("documents", "--remove", "--concurrency", "1"), 2, "leave --concurrency"),
        (("documents", "--remove"), 1, "there is no limit on queue 'documents'"),
        (("dokuments", "--concurrency", "1"), 1, "no queue is named 'dokuments'"),
        (("document.inject", "--per", "type", "--concurrency", "1"), 1, "no task type is named"),
        (("me", "--per", "tenant", "--concurrency", "1"), 2, "no tenant has the id 'me'"),
        (("k" * 201, "--per", "key", "--concurrency", "1"), 2, "1 to 200 characters"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    inline: Inline, arguments: tuple[str, ...], status: int, advice: str
) -> None:
    done = inline.run("queues", "limit", *arguments)
    assert (done.returncode, advice in done.stderr) == (status, True), done.stderr
    assert inline.json("queues", "list")["limits"] == []
