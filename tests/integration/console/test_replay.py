"""`greenroom tasks replay` by a filter: what it shows, what it enqueues, what follows and stops it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db.embedded import running_url
from tests.support.command import Greenroom, Inline
from tests.support.waiting import eventually

# Deletions of documents that are not there, which failed and will be done.
_FAILED = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, tenant_id, queue, priority, max_attempts, status,
    attempts, started_at, completed_at, failed_at, last_error)
SELECT 'document.delete', jsonb_build_object('document_id', gen_random_uuid()), 1, identity.default_tenant_id(),
    'documents', 0, 5, 'failed', 5, now(), now(), now(), %(error)s
FROM generate_series(1, %(count)s)
"""


@pytest.fixture
def database(inline: Inline, home: Path) -> Iterator["psycopg.Connection[Any]"]:
    """The owner's connection to the database of the running `up`."""
    url = running_url(home)
    assert url is not None
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def failed(database: "psycopg.Connection[Any]", count: int) -> str:
    """Add failed tasks; return the word in their errors by which they are known."""
    word = f"outage-{uuid4()}"
    database.execute(_FAILED, {"count": count, "error": f"RuntimeError: {word}"})
    return word


def statuses(inline: Inline, word: str) -> list[str]:
    return [task["status"] for task in inline.json("tasks", "list", "--error", word, "--limit", "1000")["tasks"]]


def test_a_preview_counts_shows_and_changes_nothing(inline: Inline, database: "psycopg.Connection[Any]") -> None:
    word = failed(database, 7)
    call = ("tasks", "replay", "--failed", "--error", word.upper(), "--dry-run")
    found = inline.json(*call)
    assert (found["count"], found["task_id"], found["dry_run"], found["end"]) == (7, None, True, None)
    assert found["by_type"] == [{"task_type": "document.delete", "queue": "documents", "count": 7}]
    assert [row["error"] for row in found["first"]] == [f"RuntimeError: {word}"] * 5
    assert inline.json(*call, "--limit", "3")["count"] == 3
    shown = inline.run(*call)
    assert shown.stdout.count(word) == 5
    assert "7 would be replayed, 100 a second; without --dry-run they are" in shown.stderr
    assert statuses(inline, word) == ["failed"] * 7


def test_a_replay_is_a_task_that_can_be_waited_for(inline: Inline, database: "psycopg.Connection[Any]") -> None:
    word = failed(database, 7)
    said = inline.json("tasks", "replay", "--type", "document.delete", "--error", word, "--rate", "500", "--wait")
    assert (said["count"], said["end"]["status"], said["end"]["result"]) == (7, "done", {"replayed": 7, "skipped": 0})
    eventually(lambda: statuses(inline, word) == ["done"] * 7)
    audited = "SELECT metadata FROM audit.audit_events WHERE event_type = 'replay.requested' AND resource_id = %s"
    [(asked,)] = database.execute(audited, (said["task_id"],)).fetchall()
    assert asked == {"cancelled": False, "of_type": "document.delete", "error": word, "count": 7, "rate": 500.0}
    again = inline.run("tasks", "replay", "--failed", "--error", word)
    assert (again.returncode, again.stdout) == (0, "nothing matches\n")


def test_it_is_followed_and_stopped(greenroom: Greenroom, inline: Inline, database: "psycopg.Connection[Any]") -> None:
    word = failed(database, 200)
    shown = inline.run("tasks", "replay", "--failed", "--error", word, "--rate", "2")
    [line] = [line for line in shown.stdout.splitlines() if "replays 200, 2 a second" in line]
    replay_id = line.partition(":")[0]
    assert f"`greenroom tasks cancel {replay_id}` stops it" in shown.stderr
    with greenroom.running("tasks", "show", replay_id, "--watch") as watching:
        eventually(lambda: re.search(r"\b[1-9]\d* of 200 replayed", watching.said()), 60)
        assert inline.ok("tasks", "cancel", replay_id).startswith(replay_id)
        assert watching.process.wait(30) == 1
        assert "cancelled by an operator" in watching.said()
    assert 0 < statuses(inline, word).count("failed") < 200
    assert inline.json("tasks", "show", replay_id)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--type", "document.remove"], 2, "unknown task type 'document.remove'; known are api_keys.expire"),
        (["--queue", "document"], 1, "no queue is named 'document'; there are default, documents"),
        (["--failed", "--tenant", "nobody"], 1, "nobody"),
        (["--failed", "--rate", "0"], 2, "--rate is tasks a second, from 0.01 to 1000, not 0"),
        (["--failed", "--rate", "-1"], 2, "--rate is tasks a second"),
        (["--failed", "--rate", "1001"], 2, "--rate is tasks a second"),
        (["--failed", "--rate", "nan"], 2, "--rate is tasks a second"),
        (["--failed", "--rate", "fast"], 2, "--rate"),
        (["--failed", "--limit", "0"], 2, "--limit"),
        (["--failed", "--since", "yesterday"], 2, "is no time"),
        (["--owner", "me"], 2, "is not an id"),
        ([str(uuid4()), "--rate", "5"], 2, "--rate is for tasks that options name"),
        (["--rate", "5"], 2, "name tasks by id, or by --failed"),
    ],
)
def test_wrong_calls_are_told_what_to_do(inline: Inline, arguments: list[str], status: int, says: str) -> None:
    done = inline.run("tasks", "replay", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_that_matches_is_no_failure_and_no_task(inline: Inline) -> None:
    done = json.loads(inline.ok("tasks", "replay", "--failed", "--error", str(uuid4()), "--wait", "--json"))
    assert (done["count"], done["by_type"], done["first"], done["task_id"], done["end"]) == (0, [], [], None, None)
