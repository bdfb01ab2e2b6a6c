"""A task's life by real commands, the same in each set-up."""

import json

import psycopg
import pytest

from pipelines.enqueue import enqueue_many
from tests.acceptance.conftest import Installation
from tests.faults.processes import PROJECT
from tests.support.command import Inline
from tests.support.tasks import Write
from tests.support.waiting import eventually

_SAMPLE = PROJECT / "console" / "samples" / "six-teas-one-leaf.txt"


def test_a_command_enqueues_and_waits_for_the_result(installation: Installation) -> None:
    end = installation.greenroom.json("enqueue", "test.write", "n=1", "--wait")
    assert (end["status"], end["result"]) == ("done", {"n": 1})


def test_what_a_transaction_enqueued_runs_if_it_commits(installation: Installation) -> None:
    with psycopg.connect(installation.producer_url, prepare_threshold=None) as connection:
        enqueue_many(connection, [Write(n=-1) for _ in range(20)])
        connection.rollback()
        enqueue_many(connection, [Write(n=100 + n) for n in range(200)])
    found = "SELECT count(*), count(DISTINCT n) FROM public.effects WHERE n >= 100"
    eventually(lambda: installation.database.rows(found) == [(200, 200)], 30)
    assert installation.database.value("SELECT count(*) FROM public.effects WHERE n < 0") == 0


def test_a_bare_insert_is_a_task(installation: Installation) -> None:
    with psycopg.connect(installation.producer_url, prepare_threshold=None) as connection:
        connection.execute("INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.write', '{\"n\": 7}')")
    eventually(lambda: installation.database.value("SELECT count(*) FROM public.effects WHERE n = 7") == 1, 20)


def test_a_task_that_fails_is_tried_again_and_replayed(installation: Installation) -> None:
    greenroom = installation.greenroom
    task_id = greenroom.ok("enqueue", "test.raise").strip()
    eventually(lambda: greenroom.json("tasks", "show", task_id)["status"] == "failed", 30)
    assert outcomes(greenroom, task_id) == ["retry", "retry", "fail"]
    greenroom.ok("tasks", "replay", task_id)
    eventually(lambda: len(outcomes(greenroom, task_id)) == 6, 30)


def test_a_deferred_task_is_started_now(installation: Installation) -> None:
    greenroom = installation.greenroom
    task_id = greenroom.ok("enqueue", "test.write", "n=8", "--run-after", "3600").strip()
    greenroom.ok("tasks", "retry", task_id)
    eventually(lambda: greenroom.json("tasks", "show", task_id)["status"] == "done", 20)


def test_a_running_task_is_cancelled_and_writes_nothing(installation: Installation) -> None:
    greenroom = installation.greenroom
    task_id = greenroom.ok("enqueue", "test.slow", "seconds=1.5", "n=9").strip()
    eventually(lambda: greenroom.json("tasks", "show", task_id)["status"] == "in_progress", 20)
    greenroom.ok("tasks", "cancel", task_id)
    # What comes after it on the same threads has its effect; the cancelled one had time for its own.
    greenroom.json("enqueue", "test.slow", "seconds=2", "n=10", "--wait")
    assert greenroom.json("tasks", "show", task_id)["status"] == "cancelled"
    effects = "SELECT n FROM public.effects WHERE n IN (9, 10)"
    assert installation.database.rows(effects) == [(10,)]


def test_a_paused_queue_waits(installation: Installation) -> None:
    greenroom = installation.greenroom
    greenroom.ok("queues", "pause", "default")
    task_id = greenroom.ok("enqueue", "test.write", "n=11").strip()
    greenroom.ok("queues", "resume", "default")
    eventually(lambda: greenroom.json("tasks", "show", task_id)["status"] == "done", 20)


@pytest.mark.timeout(180)  # the model is loaded
@pytest.mark.parametrize("installation", ["pooled"], indirect=True)  # directly, the command line's tests do it
def test_a_file_becomes_searchable(installation: Installation) -> None:
    greenroom = installation.greenroom
    [document] = greenroom.json("ingest", str(_SAMPLE))["documents"]
    assert document["status"] == "completed"
    [hit] = greenroom.json("search", "which tea is not oxidised", "--limit", "1")["hits"]
    assert hit["document_name"] == _SAMPLE.name


def test_doctor_knows_whether_relays_hear(installation: Installation) -> None:
    hears = "SELECT bool_and(hears_notify) FROM queue.processes WHERE kind = 'relay' AND hears_notify IS NOT NULL"
    expected = installation.setup != "deaf"
    eventually(lambda: installation.database.value(hears) is expected, 20)
    answer = installation.greenroom.run("doctor", "--json")
    [listen] = [check for check in json.loads(answer.stdout)["checks"] if check["name"] == "listen"]
    assert listen["detail"] == ("relays are rung" if expected else "relays poll")


def outcomes(greenroom: Inline, task_id: str) -> list[str]:
    """Return what came of a task's attempts."""
    return [attempt["outcome"] for attempt in greenroom.json("tasks", "show", task_id)["attempt_records"]]
