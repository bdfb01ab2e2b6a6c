"""A small parent and its children: killed, recycled, stuck, refused. Nothing is lost, and nobody else is harmed."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from db import tasks
from pipelines.enqueue import enqueue
from pipelines.payload import Payload
from pipelines.waiting import wait_for, wait_for_all
from tests.support.command import Greenroom, Running
from tests.support.database import Database
from tests.support.stuck_tasks import Grow, Hold, LimitedHold, Sleep
from tests.support.tasks import Noop, Slow, Write
from tests.support.waiting import eventually

_FAST = {
    "GREENROOM_TASK_MODULES": "tests.support.stuck_tasks",
    "GREENROOM_OBSERVE_LOG_FORMAT": "json",
    "GREENROOM_RELAY_RESCUE_SECONDS": "0.2",
    "GREENROOM_RELAY_CLAIM_SECONDS": "2",
    "GREENROOM_RELAY_DEPTH": "1",  # a child's relay claims nothing that the other child could begin
    "GREENROOM_WORKER_INTERRUPT_SECONDS": "1",
    "GREENROOM_WORKER_LEASE_SECONDS": "6",
}
PARENT_LIMIT = 80_000_000
WORKER_LIMIT = 120_000_000
RELAY_LIMIT = 100_000_000


@contextmanager
def up(database: Database, home: Path, **settings: str) -> Iterator[Running]:
    """`greenroom up` over the test's database, until it says that it is up."""
    given = {f"GREENROOM_{name}": value for name, value in settings.items()}
    greenroom = Greenroom(home, _FAST | {"GREENROOM_DATABASE_URL": database.owner_url} | given)
    with greenroom.running("up") as running:
        try:
            eventually(lambda: "Greenroom is up." in running.said() or running.process.poll() is not None, 60)
            yield running
        except BaseException:
            sys.stderr.write(running.said())  # pytest shows it with a test that failed
            raise
        finally:
            for child in children(running):
                child.kill()


def children(running: Running) -> list[psutil.Process]:
    """Whoever runs below the parent, heartbeats too."""
    try:
        return psutil.Process(running.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(database: Database) -> set[int]:
    """The processes that serve, by their ids."""
    return {row[0] for row in database.rows("SELECT pid FROM queue.processes WHERE kind = 'worker' AND slots > 0")}


def both(database: Database, without: int = 0) -> list[int]:
    """Wait until two processes serve, and one that does not any more is forgotten."""
    eventually(lambda: len(workers(database) - {without}) == 2, 30)
    return sorted(workers(database) - {without})


def start(database: Database, payload: Payload) -> UUID:
    """Enqueue a task and wait until it runs."""
    task_id = enqueue(database.connect("producer"), payload)
    query = "SELECT status FROM queue.outbox_tasks WHERE id = %s"
    eventually(lambda: database.value(query, (task_id,)) == "in_progress", 20)
    return task_id


def runs_in(database: Database, task_id: UUID) -> int:
    """The process that runs a task."""
    query = "SELECT p.pid FROM queue.tasks_live t JOIN queue.processes p ON p.id = t.worker_id WHERE t.id = %s"
    return int(database.value(query, (task_id,)))


def end_of(database: Database, task_id: UUID) -> tuple[str, int]:
    end = wait_for(database.connect(), task_id, timeout=40)
    return end.status, int(database.value("SELECT attempts FROM queue.outbox_tasks WHERE id = %s", (task_id,)))


def test_a_killed_child_is_replaced_and_harms_no_other(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_PROCESSES="2", WORKER_THREADS="1") as running:
        one, other = both(effects)
        ids = [start(effects, Slow(seconds=3.0, n=n)) for n in range(2)]
        assert {runs_in(effects, task_id) for task_id in ids} == {one, other}
        os.kill(one, signal.SIGKILL)
        assert other in both(effects, without=one)
        assert sorted(end_of(effects, task_id) for task_id in ids) == [("done", 1), ("done", 2)]
        assert '"child.ended"' in running.said()
        assert '"status": -9' in running.said()
        assert running.stop() == 0
        assert "Traceback" not in running.said()
    assert sorted(effects.rows("SELECT n FROM effects")) == [(0,), (1,)]


def test_what_it_weighs(effects: Database, tmp_path: Path, redis_url: str) -> None:
    with up(effects, tmp_path, BROKER_URL=redis_url) as running:
        relay = int(effects.value("SELECT pid FROM queue.processes WHERE kind = 'relay'"))
        [worker] = eventually(lambda: workers(effects))
        assert len({running.process.pid, relay, worker}) == 3
        weights = [psutil.Process(pid).memory_info().rss for pid in (running.process.pid, relay, worker)]
        assert all(
            weight <= limit for weight, limit in zip(weights, (PARENT_LIMIT, RELAY_LIMIT, WORKER_LIMIT), strict=True)
        )
        assert end_of(effects, enqueue(effects.connect("producer"), Write(n=1))) == ("done", 1)
        assert running.stop() == 0


def test_the_parent_s_death_ends_the_children(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path) as running:
        below = children(running)
        assert len(below) == 2, "a child and its heartbeat"
        running.process.kill()
        assert psutil.wait_procs(below, timeout=20)[1] == []
    assert effects.value("SELECT count(*) FROM queue.processes") == 0, "in order, as at SIGTERM"


def test_recycled_after_a_count_of_tasks_having_drained(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_RECYCLE_TASKS="20", WORKER_THREADS="2") as running:
        [first] = eventually(lambda: workers(effects))
        slow = start(effects, Slow(seconds=9.0, n=-1))  # longer than a successor takes to start beside other work
        assert runs_in(effects, slow) == first
        producer = effects.connect("producer")
        for n in range(30):
            enqueue(producer, Write(n=n))
        successor = eventually(lambda: workers(effects) - {first}, 30)
        assert first not in workers(effects)
        assert runs_in(effects, slow) == first, "the successor serves while the one before finishes what runs"
        assert end_of(effects, slow) == ("done", 1)
        eventually(lambda: effects.value("SELECT count(*) FROM effects") == 31, 20)
        eventually(lambda: not psutil.pid_exists(first), 20)
        assert len(successor) == 1
        assert '"worker.recycle_tasks is 20"' not in running.said()
        assert "worker.recycle_tasks is 20" in running.said()
        assert '"child.ended"' not in running.said()
        assert running.stop() == 0
    assert effects.value("SELECT max(attempts) FROM queue.outbox_tasks") == 1


def test_children_are_replaced_under_a_schema_that_has_become_newer(
    effects: Database, tmp_path: Path, redis_url: str
) -> None:
    """A release is put in beside us: who starts anew is refused, who only has its process replaced goes on."""
    producer, relays = effects.connect("producer"), "SELECT pid FROM queue.processes WHERE kind = 'relay'"
    with up(effects, tmp_path, BROKER_URL=redis_url, WORKER_RECYCLE_TASKS="20") as running:
        [worker], relay = eventually(lambda: workers(effects)), int(effects.value(relays))
        effects.rows("UPDATE public.alembic_version SET version_num = '9999'")
        effects.rows("UPDATE queue.task_types SET priority = 7 WHERE name = 'test.noop'")
        for n in range(30):
            enqueue(producer, Write(n=n))
        assert eventually(lambda: workers(effects) - {worker}, 40)
        os.kill(relay, signal.SIGKILL)
        eventually(lambda: set(effects.rows(relays)) - {(relay,)}, 40)
        assert end_of(effects, enqueue(producer, Noop())) == ("done", 1)
        eventually(lambda: effects.value("SELECT count(*) FROM effects") == 30, 20)
        assert effects.value("SELECT priority FROM queue.task_types WHERE name = 'test.noop'") == 7, "not taken back"
        assert "newer than this program" not in running.said()
        assert running.stop() == 0


def test_recycled_at_a_memory_cap(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_MEMORY_LIMIT="200000000") as running:
        [first] = eventually(lambda: workers(effects))
        assert end_of(effects, enqueue(effects.connect("producer"), Grow(size=250_000_000))) == ("done", 1)
        [second] = eventually(lambda: workers(effects) - {first}, 30)
        assert "worker.memory_limit is 200000000" in running.said()
        eventually(lambda: not psutil.pid_exists(first), 20)
        assert psutil.Process(second).memory_info().rss < 200_000_000


def test_a_cap_that_nothing_fits_under_does_not_spin(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_MEMORY_LIMIT="1000000") as running:
        eventually(lambda: running.said().count("process.leaving") >= 3, 60)
        first, second, third, *_ = leavings(running)
        assert third - second > 1.0, "but for the first, they wait before they try again"
        assert first < second


def leavings(running: Running) -> list[float]:
    """When children said that they leave."""
    lines = [json.loads(line) for line in running.said().splitlines() if '"process.leaving"' in line]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]


def test_what_sticks_in_c_is_given_up_with_its_process(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_THREADS="2") as running:
        [first] = eventually(lambda: workers(effects))
        neighbour, stuck = start(effects, Slow(seconds=4.0, n=1)), start(effects, Sleep(n=2))
        assert tasks.cancel(effects.connect("operator"), stuck, "not wanted") == "requested"
        assert end_of(effects, stuck) == ("cancelled", 1)
        assert eventually(lambda: workers(effects) - {first}, 30)
        assert end_of(effects, neighbour) == ("done", 1), "it came to its end"
        eventually(lambda: not psutil.pid_exists(first), 20)
        assert '"handler.stuck"' in running.said()
        assert running.stop() == 0
    assert effects.rows("SELECT n FROM effects") == [(1,)]


def test_what_holds_the_interpreter_is_killed_with_its_process(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_THREADS="2") as running:
        [first] = eventually(lambda: workers(effects))
        neighbour, stuck = start(effects, Slow(seconds=2.0, n=1)), start(effects, Hold())
        assert tasks.cancel(effects.connect("operator"), stuck, "not wanted") == "requested"
        assert end_of(effects, stuck) == ("cancelled", 1)
        assert end_of(effects, neighbour) == ("done", 1), "the attempt that was handed back is not counted"
        assert first not in workers(effects)
        assert "does not react and is killed" in running.said()
        assert running.stop() == 0
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    outcomes = effects.rows("SELECT outcome FROM queue.attempts WHERE task_id = %s", (neighbour,))
    assert outcomes in ([], [("handed_back",)]), "unless it was done just before"


def test_a_time_limit_ends_what_holds_the_interpreter(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_TARGET_SECONDS="0.1") as running:
        [first] = eventually(lambda: workers(effects))
        stuck = enqueue(effects.connect("producer"), LimitedHold())
        assert end_of(effects, stuck) == ("failed", 1)
        assert "time limit" in effects.value("SELECT last_error FROM queue.outbox_tasks WHERE id = %s", (stuck,))
        assert eventually(lambda: workers(effects) - {first}, 30)
        assert end_of(effects, enqueue(effects.connect("producer"), Noop())) == ("done", 1)
        assert running.stop() == 0


@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_task_module_that_cannot_be_imported_is_named_and_ends_it(
    effects: Database, tmp_path: Path, redis_url: str, command: str
) -> None:
    settings = {"GREENROOM_DATABASE_URL": effects.owner_url, "GREENROOM_BROKER_URL": redis_url}
    done = Greenroom(tmp_path, settings | {"GREENROOM_TASK_MODULES": "no.such.module"}).run(command, timeout=60)
    assert done.returncode == 1
    assert "no.such.module" in done.stderr
    assert "Traceback" not in done.stderr


def test_many_tasks_over_two_children_are_done_once(effects: Database, tmp_path: Path) -> None:
    with up(effects, tmp_path, WORKER_PROCESSES="2", WORKER_RECYCLE_TASKS="150") as running:
        producer = effects.connect("producer")
        with producer.transaction():
            ids = [enqueue(producer, Write(n=n)) for n in range(600)]
        assert {end.status for end in wait_for_all(effects.connect(), ids, timeout=60)} == {"done"}
        assert running.stop() == 0
    assert effects.value("SELECT count(*) FROM effects") == 600
    assert effects.value("SELECT count(DISTINCT n) FROM effects") == 600
