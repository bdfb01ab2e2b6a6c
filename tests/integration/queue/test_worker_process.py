"""A real worker process: killed, stopped, gripped, told to end. Its heartbeat is a process beside it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.waiting import wait_for
from tests.support.database import Database
from tests.support.engine import fast_settings, publish
from tests.support.tasks import Grip, Slow, Write
from tests.support.waiting import eventually
from workers.broker import open_broker
from workers.processes import Addresses, RelayProcess

PROJECT = Path(__file__).resolve().parents[3]
LEASE = 2.0


@contextmanager
def worker(database: Database, redis_url: str, *, grace: float = 0.5) -> Iterator["subprocess.Popen[str]"]:
    """Run a worker of one thread; whatever is left of it is killed at the end."""
    config = {
        "url": database.url("worker"), "system_url": database.url("system"), "redis_url": redis_url,
        "namespace": "test", "worker": {"threads": 1, "lease_seconds": LEASE, "grace_seconds": grace},
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.support.worker_main"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(config) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            for each in [*heartbeats_of(process.pid), *([process.pid] if process.poll() is None else [])]:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


def heartbeats_of(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children() if "workers.heartbeat" in child.cmdline()]
    return []


@pytest.fixture
def relay(effects: Database, registry: Registry, redis_url: str) -> Iterator[RelayProcess]:
    """A relay in this process, over Redis."""
    publish(effects, registry)
    broker = open_broker(redis_url, "test")
    process = RelayProcess(fast_settings(), Addresses(effects.url("relay")), broker)
    process.start()
    yield process
    process.stop()
    broker.close()


def status(database: Database) -> str:
    return str(database.value("SELECT status FROM queue.outbox_tasks"))


def is_running(database: Database) -> bool:
    """The attempt runs, and the heartbeat has renewed its lease or written the process's row."""
    return bool(database.value("SELECT count(*) FROM queue.tasks_live WHERE status = 'in_progress'"))


def test_a_killed_workers_attempt_is_rescued_at_once_and_its_heartbeat_ends(
    effects: Database, redis_url: str, relay: RelayProcess
) -> None:
    with worker(effects, redis_url) as process:
        [beat] = eventually(lambda: heartbeats_of(process.pid))
        task_id = enqueue(effects.connect("producer"), Slow(), max_attempts=1)
        eventually(lambda: is_running(effects))
        effects.rows(
            "UPDATE queue.tasks_live SET lease_until = now() + interval '1 h'"
        )  # far from running out by itself
        process.kill()
        assert wait_for(effects.connect(), task_id, timeout=8).status == "failed"
        eventually(lambda: not psutil.pid_exists(beat))
    assert effects.rows("SELECT number, outcome FROM queue.attempts") == [(1, "lost")]
    assert effects.rows("SELECT * FROM effects") == []
    assert effects.value("SELECT count(*) FROM queue.processes WHERE kind = 'worker'") == 0


def test_a_stopped_workers_lease_runs_out_and_its_late_end_is_fenced(
    effects: Database, redis_url: str, relay: RelayProcess
) -> None:
    with worker(effects, redis_url) as process:
        enqueue(effects.connect("producer"), Slow(seconds=1.0, n=1))
        eventually(lambda: is_running(effects))
        os.kill(process.pid, signal.SIGSTOP)
        eventually(lambda: status(effects) == "pending", 4 * LEASE)
        # Another claim goes out while the process stands still; then it wakes up and finishes what it had.
        assert effects.rows("SELECT * FROM effects") == []
        os.kill(process.pid, signal.SIGCONT)
        eventually(lambda: status(effects) == "done", 20)
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    assert effects.value("SELECT attempts FROM queue.outbox_tasks") == 2


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(
    effects: Database, redis_url: str, relay: RelayProcess
) -> None:
    with worker(effects, redis_url) as process:
        eventually(lambda: heartbeats_of(process.pid))
        task_id = enqueue(effects.connect("producer"), Grip(seconds=1.5 * LEASE, n=1))
        end = wait_for(effects.connect(), task_id, timeout=60)
    assert end.status == "done"
    assert end.result["longest"] > LEASE, "the call was too short to show anything"
    assert effects.value("SELECT attempts FROM queue.outbox_tasks") == 1
    assert effects.rows("SELECT n FROM effects") == [(1,)]


def test_at_sigterm_what_still_runs_is_handed_back_at_no_cost(
    effects: Database, redis_url: str, relay: RelayProcess
) -> None:
    with worker(effects, redis_url, grace=0.2) as process:
        [beat] = eventually(lambda: heartbeats_of(process.pid))
        enqueue(effects.connect("producer"), Slow())
        eventually(lambda: is_running(effects))
        process.terminate()
        assert process.wait(15) == 0
        eventually(lambda: not psutil.pid_exists(beat))
    assert effects.rows("SELECT status, attempts FROM queue.outbox_tasks") == [("pending", 0)]
    assert effects.rows("SELECT outcome FROM queue.attempts") == [("handed_back",)]
    assert effects.rows("SELECT * FROM effects") == []


def test_at_sigterm_what_ends_in_time_is_done(effects: Database, redis_url: str, relay: RelayProcess) -> None:
    with worker(effects, redis_url, grace=20) as process:
        task_id = enqueue(effects.connect("producer"), Slow(seconds=0.7, n=1))
        eventually(lambda: is_running(effects))
        process.terminate()
        assert process.wait(15) == 0
        waiting = enqueue(effects.connect("producer"), Write(n=2))
    assert effects.value("SELECT status FROM queue.outbox_tasks WHERE id = %s", (task_id,)) == "done"
    assert effects.value("SELECT attempts FROM queue.outbox_tasks WHERE id = %s", (waiting,)) == 0
    assert effects.rows("SELECT n FROM effects") == [(1,)]
