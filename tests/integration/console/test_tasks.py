"""Tasks and queues from the command line: enqueue, look, steer, and what each deed leaves in the audit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db.embedded import running_url
from tests.support.command import Inline

NOBODY = "01900000-0000-7000-8000-000000000000"


def later() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture
def waiting(inline: Inline) -> str:
    """The id of a task that waits for an hour: the deletion of a document that does not exist."""
    return inline.ok("enqueue", "document.delete", f"document_id={uuid4()}", "--run-after", "3600").strip()


def audited(home: Path, task_id: str) -> list[str]:
    url = running_url(home)
    assert url is not None
    with psycopg.connect(url) as connection:
        query = "SELECT event_type FROM audit.audit_events WHERE resource_id = %s ORDER BY created_at"
        return [row[0] for row in connection.execute(query, (task_id,))]


def test_enqueue_and_wait_for_the_result(inline: Inline) -> None:
    end = inline.json("enqueue", "document.delete", json.dumps({"document_id": NOBODY}), "--wait")
    assert (end["status"], end["result"]) == ("done", {"document_id": NOBODY})
    piped = inline.ok("enqueue", "document.delete", "-", "--wait", stdin=json.dumps({"document_id": NOBODY}))
    assert "status  done" in piped


def test_what_a_task_is_enqueued_with_is_shown(inline: Inline) -> None:
    given = ("--max-attempts", "2", "--limit-key", "shelf", "--run-after", later())
    task_id = inline.ok("enqueue", "document.delete", f"document_id={NOBODY}", *given).strip()
    shown = inline.json("tasks", "show", task_id)
    assert (shown["max_attempts"], shown["limit_key"], shown["is_waiting"]) == (2, "shelf", False)


def test_a_task_that_fails_while_waited_for_is_a_failure(inline: Inline) -> None:
    done = inline.run("enqueue", "document.ingest", "path=../outside.txt", "--wait")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["document.remove"], "unknown task type 'document.remove'; known are api_keys.expire"),
        (["document.delete"], "document_id is missing"),
        (["document.delete", "document_id=5"], "document_id must be string"),
        (["document.delete", f"document_id={NOBODY}", "force=true"], "force is not a field"),
        (["document.delete", "{"], "not JSON"),
        (["document.delete", '{"document_id": "\\ud800"}'], "payload"),
        (["document.delete", "document_id"], "neither KEY=VALUE nor a JSON object"),
        (["document.delete", f"document_id={NOBODY}", "--run-after", "2026-01-31T08:00:00"], "no time zone"),
        (["document.delete", f"document_id={NOBODY}", "--run-after", "soon"], "is no time"),
        (["document.delete", f"document_id={NOBODY}", "--priority", "500"], "priority"),
        (["document.delete", f"document_id={NOBODY}", "--unique-key", "k" * 300], "unique_key must be text"),
    ],
)
def test_wrong_tasks_are_refused_in_one_sentence(inline: Inline, arguments: list[str], says: str) -> None:
    done = inline.run("enqueue", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_unique_key_returns_the_live_task(inline: Inline) -> None:
    call = ("enqueue", "document.delete", f"document_id={NOBODY}", "--unique-key", str(uuid4()), "--run-after", later())
    assert inline.ok(*call) == inline.ok(*call)


def test_list_filters_and_pages(inline: Inline, waiting: str) -> None:
    page = inline.json("tasks", "list", "--type", "document.delete", "--limit", "1")
    assert [task["id"] for task in page["tasks"]] == [page["next"]]
    following = inline.json("tasks", "list", "--type", "document.delete", "--limit", "5", "--before", page["next"])
    assert page["next"] not in {task["id"] for task in following["tasks"]}
    pending = inline.json("tasks", "list", "--status", "pending", "--queue", "documents", "--tenant", "default")
    assert waiting in {task["id"] for task in pending["tasks"]}
    assert "due in 60 min" in inline.ok("tasks", "list", "--status", "pending")
    assert inline.json("tasks", "list", "--owner", NOBODY) == {"tasks": [], "next": None}
    assert inline.run("tasks", "list", "--failed", "--status", "done").returncode == 2
    assert inline.run("tasks", "list", "--before", "x").returncode == 2


def test_show_masks_secret_fields(inline: Inline) -> None:
    inline.ok("search", "the query is nobody's business")
    [task] = inline.json("tasks", "list", "--type", "query.embed", "--limit", "1")["tasks"]
    shown = inline.run("tasks", "show", task["id"])
    assert "**********" in shown.stdout
    assert "nobody's business" not in shown.stdout + inline.ok("tasks", "show", task["id"], "--json")


def test_retry_cancel_replay(inline: Inline, home: Path, waiting: str) -> None:
    other = inline.ok("enqueue", "document.delete", f"document_id={NOBODY}", "--run-after", "3600").strip()
    assert inline.ok("tasks", "cancel", other, "--reason", "not needed") == f"{other}: cancelled\n"
    shown = inline.json("tasks", "show", other)
    assert (shown["status"], shown["last_error"]) == ("cancelled", "not needed")
    assert "is cancelled already" in inline.run("tasks", "cancel", other).stderr

    assert inline.ok("tasks", "retry", waiting) == f"{waiting}: due now\n"
    refused = inline.run("tasks", "retry", other, NOBODY)
    assert refused.returncode == 1
    assert "greenroom tasks replay" in refused.stderr
    assert f"no task has the id {NOBODY}" in refused.stderr

    preview = inline.json("tasks", "replay", other, "--dry-run")
    assert [row["id"] for row in preview["found"]] == [other]
    assert inline.json("tasks", "show", other)["status"] == "cancelled"
    assert inline.ok("tasks", "replay", other) == "1 replayed\n"
    assert audited(home, other) == ["task.cancelled", "task.replayed"]
    assert audited(home, waiting) == ["task.retried"]


def test_replay_takes_each_id_once_and_no_fewer_than_are_named(inline: Inline) -> None:
    call = ("enqueue", "document.delete", f"document_id={NOBODY}", "--run-after", "3600")
    one, other = inline.ok(*call).strip(), inline.ok(*call).strip()
    assert inline.ok("tasks", "cancel", one, one.upper(), other).count("cancelled") == 2
    twice = inline.json("tasks", "replay", one, one, one.upper(), "--dry-run")
    assert [row["id"] for row in twice["found"]] == [one]
    both = inline.json("tasks", "replay", one, other, "--limit", "1", "--dry-run")
    assert {row["id"] for row in both["found"]} == {one, other}
    assert inline.ok("tasks", "replay", one, one, other) == "2 replayed\n"


def test_replay_by_filter_is_bounded_and_previewed(inline: Inline) -> None:
    inline.run("enqueue", "document.ingest", "path=nowhere.txt", "--wait")
    found = inline.run("tasks", "replay", "--failed", "--type", "document.ingest", "--since", "-600", "--dry-run")
    assert found.returncode == 0
    assert "would be replayed" in found.stderr
    assert inline.run("tasks", "replay").returncode == 2
    assert inline.run("tasks", "replay", NOBODY, "--failed").returncode == 2
    assert inline.run("tasks", "replay", NOBODY).returncode == 1


def test_held_tasks_are_listed_and_released(inline: Inline, home: Path) -> None:
    url = running_url(home)
    assert url is not None
    with psycopg.connect(url) as connection:
        query = "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('no.such', %s) RETURNING id"
        [(held,)] = connection.execute(query, ('{"key": "s3cr3t"}',)).fetchall()
    listed: Any = inline.json("tasks", "list", "--held")["tasks"]
    assert [(task["id"], task["status"]) for task in listed] == [(str(held), "pending")]
    assert "held: unknown task type no.such" in inline.ok("tasks", "list", "--held")
    assert "s3cr3t" not in inline.ok("tasks", "show", str(held))  # of an unknown type, nobody knows what is secret
    done = inline.run("tasks", "release", str(held))
    assert done.returncode == 1
    assert "is still held: unknown task type" in done.stderr
    assert "1 tasks are held" in inline.run("doctor").stdout
    inline.ok("tasks", "cancel", str(held))
    assert "is not held" in inline.run("tasks", "release", str(held)).stderr


def test_queues_pause_and_resume(inline: Inline, home: Path) -> None:
    assert inline.ok("queues", "pause", "embedding") == "embedding: paused\n"
    [embedding] = [row for row in inline.json("queues", "list")["queues"] if row["name"] == "embedding"]
    assert embedding["paused_at"]
    assert embedding["workers"] == 1
    assert inline.ok("queues", "resume", "embedding") == "embedding: open\n"
    assert audited(home, "embedding") == ["queue.paused", "queue.resumed"]
    unknown = inline.run("queues", "pause", "embeding")
    assert unknown.returncode == 1
    assert "there are default, documents, embedding" in unknown.stderr


def test_doctor_finds_everything_in_order(inline: Inline) -> None:
    found = inline.json("doctor")
    assert found["is_well"]
    names = [check["name"].split(" ")[0] for check in found["checks"]]
    assert {"database", "pgvector", "schema", "relay", "worker", "listen", "broker", "queue", "storage"} <= set(names)
