"""A release is put in while the program before it works: that one's processes go on under the new schema.

The program before is its source from git (tests/support/history.py), with our packages. It makes the database and
works, and the schema changes under it.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from db.connection import Connection
from db.migrate import status
from db.schema import WANTED_REVISION
from tests.support.command import PROJECT, Greenroom, Running
from tests.support.database import Database, fast_server
from tests.support.history import extract_program_before_newest_migration
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)  # the first test's is the whole deployment: two starts, a model, a migration

_SAMPLES = PROJECT / "console" / "samples"
_EFFECTS = "CREATE TABLE public.effects (n integer, note text)"
_GRANT = "GRANT SELECT, INSERT ON public.effects TO greenroom_worker, greenroom_system"
_TASKS = "tests.support.tasks,until_told"
# A module of both programs.
_UNTIL_TOLD = """
import threading
from pathlib import Path
from typing import ClassVar
from pipelines.outcomes import Done
from pipelines.payload import Payload
from pipelines.task import Task

class UntilTold(Payload):
    task_type: ClassVar[str] = "until.told"
    file: str

def wait(context, payload):
    while not Path(payload.file).exists():
        threading.Event().wait(0.05)
    sql = "INSERT INTO public.effects (n, note) VALUES (-1, 'told')"
    return Done(apply=lambda transaction: transaction.execute(sql))

TASKS = (Task(payload=UntilTold, run=wait),)
"""
# Commands check the schema when they start. This is one whose start was before the migration.
_BEGUN = """
import sys
from db import schema
schema.current_revision = lambda connection: schema.WANTED_REVISION
from console.main import run
sys.exit(run(sys.argv[1:]))
"""


class BegunBefore(Greenroom):
    """Runs commands that have their check of the schema behind them."""

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-c", _BEGUN, *arguments]


@dataclass(frozen=True)
class Release:
    """The schema is the new program's, and `up` is the old program's that has run since before."""

    database: Database
    old: Greenroom
    new: Greenroom
    up: Running
    old_revision: str | None
    slow: str
    enqueued: int

    @property
    def begun(self) -> BegunBefore:
        """The old program's commands that were begun before the migration."""
        return BegunBefore(self.old.home, self.old.settings)

    def end_of(self, task_id: str) -> tuple[str, int]:
        """Wait for a task's end; return its status and how many attempts it took."""
        query = """SELECT status, attempts FROM queue.outbox_tasks
            WHERE id = %s AND status IN ('done', 'failed', 'cancelled')"""
        [(ended, attempts)] = eventually(lambda: self.database.rows(query, (task_id,)), 40)
        return ended, attempts


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, redis_of_session: str) -> Iterator[Release]:
    """The new program's migration, done while the old program works."""
    folder = tmp_path_factory.mktemp("release")
    extract_program_before_newest_migration(folder / "old")
    with ExitStack() as stack:
        server = stack.enter_context(fast_server())  # its roles are the old program's at first
        database = Database(server, "greenroom")
        settings = {
            "GREENROOM_DATABASE_URL": database.owner_url,
            "GREENROOM_BROKER_URL": redis_of_session,
            "GREENROOM_BROKER_NAMESPACE": "release",
            "GREENROOM_TASK_MODULES": _TASKS,
            "GREENROOM_OBSERVE_LOG_FORMAT": "json",
        }
        (modules := folder / "modules").mkdir()
        (modules / "until_told.py").write_text(_UNTIL_TOLD)
        old = Greenroom(folder / "home", settings | {"PYTHONPATH": f"{folder / 'old'}:{modules}"})
        new = Greenroom(folder / "home", settings | {"PYTHONPATH": f"{PROJECT}:{modules}"})
        up = stack.enter_context(running(old))
        database.rows(_EFFECTS)
        database.rows(_GRANT)
        old.ok("ingest", str(_SAMPLES / "six-teas-one-leaf.txt"))
        old_revision = status(database.owner_url).current
        told = folder / "told"
        with psycopg.connect(database.url("producer"), autocommit=True) as producer:
            slow = enqueue(producer, "until.told", file=str(told))
        runs = "SELECT status = 'in_progress' FROM queue.outbox_tasks WHERE id = %s"
        eventually(lambda: database.value(runs, (slow,)), 30)
        with producing(database) as enqueued:
            new.ok("db", "migrate")
        assert database.value(runs, (slow,))
        told.touch()
        yield Release(database, old, new, up, old_revision, slow, len(enqueued))
        assert up.stop() == 0, up.said()
        assert trouble(up) == []


@contextmanager
def running(greenroom: Greenroom) -> Iterator[Running]:
    """`up`, from when it says that it is."""
    with greenroom.running("up") as up:
        eventually(lambda: "Greenroom is up." in up.said() or up.process.poll() is not None, 60)
        assert up.process.poll() is None, up.said()
        yield up


def enqueue(producer: Connection, task_type: str, **payload: object) -> str:
    """Enqueue a task as a producer of any language does, and of either program; return its id."""
    [(task_id,)] = producer.execute("SELECT queue.enqueue(%s, %s)", (task_type, json.dumps(payload))).fetchall()
    return str(task_id)


def trouble(up: Running) -> list[str]:
    """Return the lines of a log that are of no normal course; a task that fails is that task's affair."""
    lines = [line for line in up.said().splitlines() if line.startswith(("{", "Traceback"))]
    told = {line: json.loads(line) if line.startswith("{") else {"level": "error"} for line in lines}
    return [
        line
        for line, said in told.items()
        if said["level"] in {"warning", "error"}
        and said.get("event") != "attempt.ended"
        and said.get("kind") != "final_failures"
    ]


@contextmanager
def producing(database: Database) -> Iterator[list[str]]:
    """Enqueue a task every few milliseconds for as long as the block lasts; yield their ids."""
    ids: list[str] = []
    stopping = threading.Event()

    def produce() -> None:
        with psycopg.connect(database.url("producer"), autocommit=True) as producer:
            while not stopping.wait(0.01):
                ids.append(enqueue(producer, "test.write", n=len(ids)))

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        eventually(lambda: len(ids) > 20)
        yield ids
    finally:
        stopping.set()
        producer.join()


def test_the_old_program_s_schema_is_another(release: Release) -> None:
    assert release.old_revision is not None
    assert release.old_revision < WANTED_REVISION == status(release.database.owner_url).current


def test_old_processes_end_what_came_in_around_the_migration_at_the_first_attempt(release: Release) -> None:
    database = release.database
    count = "SELECT count(*) FROM public.effects WHERE n BETWEEN 0 AND 999999"
    eventually(lambda: database.value(count) >= release.enqueued, 30)
    written = database.rows("SELECT n, count(*) FROM public.effects WHERE n BETWEEN 0 AND 999999 GROUP BY n ORDER BY n")
    assert written == [(n, 1) for n in range(release.enqueued)]
    assert database.value("SELECT max(attempts) FROM queue.outbox_tasks WHERE task_type = 'test.write'") == 1
    assert release.end_of(release.slow) == ("done", 1)
    assert database.rows("SELECT n FROM public.effects WHERE note = 'told'") == [(-1,)]


def test_an_old_process_enqueues_and_old_processes_try_again_and_cancel(release: Release) -> None:
    begun = release.begun
    assert begun.json("enqueue", "test.report", "--wait")["status"] == "done"
    failing = begun.ok("enqueue", "test.raise").strip()
    slow = begun.ok("enqueue", "test.slow", "seconds=60", "n=-2").strip()
    begun.ok("tasks", "cancel", slow)
    assert release.end_of(slow)[0] == "cancelled"
    assert release.end_of(failing) == ("failed", 3)
    listed = begun.json("tasks", "list", "--failed")["tasks"]
    assert [task["id"] for task in listed] == [failing]


def test_old_processes_make_a_document_searchable_and_find_what_was_there(release: Release) -> None:
    begun = release.begun
    [document] = begun.json("ingest", str(_SAMPLES / "kitchen-garden-year.txt"))["documents"]
    assert document["status"] == "completed"
    for query, name in (
        ("which tea is not oxidised", "six-teas-one-leaf.txt"),
        ("when are potatoes lifted", "kitchen-garden-year.txt"),
    ):
        assert begun.json("search", query, "--limit", "1")["hits"][0]["document_name"] == name


@pytest.mark.parametrize("call", [("up",), ("relay",), ("worker",), ("tasks", "list")], ids=" ".join)
def test_an_old_program_that_starts_now_says_what_to_do(release: Release, call: tuple[str, ...]) -> None:
    done = release.old.run(*call)
    assert done.returncode == 1
    newer = f"schema {WANTED_REVISION} is newer than this program ({release.old_revision}): upgrade the program"
    assert newer in done.stderr
    assert "Traceback" not in done.stderr


def test_both_programs_share_the_work_until_the_old_one_leaves(release: Release) -> None:
    database = release.database
    with running(release.new) as up, psycopg.connect(database.url("producer"), autocommit=True) as producer:
        for n in range(1_000_000, 1_000_200):
            enqueue(producer, "test.slow", seconds=0.05, n=n)
        done = "SELECT count(*), count(DISTINCT n) FROM public.effects WHERE n >= 1000000"
        eventually(lambda: database.rows(done) == [(200, 200)], 30)
        ran = """SELECT count(DISTINCT p.id) FROM queue.tasks_history t JOIN queue.processes p ON p.id = t.worker_id
            WHERE t.task_type = 'test.slow' AND CAST(t.payload ->> 'n' AS integer) >= 1000000"""
        assert database.value(ran) == 2
        assert up.stop() == 0, up.said()
