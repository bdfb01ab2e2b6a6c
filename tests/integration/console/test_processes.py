"""The roles apart over a given database and a real Redis; signals; what a relay costs; `demo`, and a command alone."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db.embedded import running_url
from db.roles import role_url
from tests.support.command import PROJECT, Greenroom, Inline
from tests.support.database import Database
from tests.support.home import quick_home
from tests.support.waiting import eventually

RELAY_LIMIT = 100 * 1024 * 1024


@pytest.fixture
def owner(tmp_path: Path, database: Database, redis_url: str) -> Inline:
    """The command with the owner's login."""
    settings = {"GREENROOM_DATABASE_URL": database.owner_url, "GREENROOM_BROKER_URL": redis_url}
    return Inline(tmp_path / "home", settings)


def role(owner: Greenroom, kind: str) -> Inline:
    url = role_url(owner.settings["GREENROOM_DATABASE_URL"], kind)
    return Inline(owner.home, owner.settings | {"GREENROOM_DATABASE_URL": url})


def test_relay_and_worker_apart(owner: Inline) -> None:
    owner.ok("db", "migrate")
    assert "no worker serves" in owner.run("search", "tea").stderr
    wrong = owner.run("doctor")
    assert wrong.returncode == 1
    assert "start `greenroom relay`" in wrong.stdout
    assert role(owner, "relay").run("doctor", "--own").returncode == 1
    with (
        role(owner, "relay").running("relay") as relay,
        role(owner, "worker").running("worker", "--threads", "2") as worker,
    ):
        eventually(lambda: "process.started" in worker.said() and "process.started" in relay.said(), 60)
        end = owner.json("enqueue", "document.delete", "document_id=01900000-0000-7000-8000-000000000000", "--wait")
        assert end["status"] == "done"
        assert role(owner, "relay").json("doctor")["is_well"]
        for kind in ("relay", "worker"):
            checks = role(owner, kind).json("doctor", "--own")["checks"]
            assert [check["name"].split()[0] for check in checks] == ["database", "pgvector", "schema", kind, "broker"]
            assert all(check["level"] == "ok" for check in checks), checks
        assert psutil.Process(relay.process.pid).memory_info().rss <= RELAY_LIMIT
        assert relay.stop(signal.SIGINT) == 0, relay.said()
        assert worker.stop() == 0, worker.said()
        assert "Traceback" not in relay.said() + worker.said()


@pytest.mark.parametrize(
    ("revision", "what_to_do"), [("0000", "greenroom db migrate"), ("9999", "upgrade the program")]
)
def test_another_schema_is_refused_by_every_role_and_command(
    owner: Inline, database: Database, revision: str, what_to_do: str
) -> None:
    database.rows("UPDATE public.alembic_version SET version_num = %s", (revision,))
    for greenroom, call in (
        (owner, ["tasks", "list"]),
        (owner, ["doctor"]),
        (role(owner, "relay"), ["relay"]),
        (role(owner, "worker"), ["worker"]),
    ):
        done = greenroom.run(*call)
        assert done.returncode == 1, call
        assert what_to_do in done.stderr, call
        assert "Traceback" not in done.stderr, call


def test_a_migration_needs_no_storage(owner: Inline, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = Inline(owner.home, owner.settings | {"GREENROOM_STORAGE_ROOT": str(tmp_path / "file" / "storage")})
    assert "the schema is at" in nowhere.ok("db", "migrate")


def test_up_over_a_given_database(owner: Inline) -> None:
    with owner.running("up") as up:
        eventually(lambda: "Greenroom is up." in up.said() or up.process.poll() is not None, 60)
        end = owner.json("enqueue", "document.delete", "document_id=01900000-0000-7000-8000-000000000000", "--wait")
        assert end["status"] == "done"
        assert up.stop() == 0, up.said()


@pytest.mark.parametrize("command", ["relay", "worker", "up"])
def test_a_database_that_is_down_at_start_is_waited_for(tmp_path: Path, redis_url: str, command: str) -> None:
    login = "owner" if command == "up" else f"greenroom_{command}"
    settings = {
        "GREENROOM_DATABASE_URL": f"postgresql://{login}:hunter2@127.0.0.1:9/greenroom",
        "GREENROOM_BROKER_URL": redis_url,
    }
    with Greenroom(tmp_path, settings).running(command) as running:
        eventually(lambda: running.said().count("cannot connect to the database") >= 2, 30)
        assert "hunter2" not in running.said()
        assert running.stop() == 0, running.said()


def test_a_relay_imports_neither_orm_nor_payloads_nor_models(
    tmp_path: Path, database: Database, redis_url: str
) -> None:
    program = """
import os, signal, sys, threading
from console.main import run
def look():
    print(*sorted(sys.modules), file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Timer(3.0, look).start()
sys.exit(run(["relay"]))
"""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT),
        "GREENROOM_HOME": str(tmp_path),
        "GREENROOM_DATABASE_URL": database.url("relay"),
        "GREENROOM_BROKER_URL": redis_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "workers.relay" in modules
    heavy = {"sqlalchemy", "alembic", "torch", "numpy", "transformers", "pipelines.documents"}
    assert not heavy & modules


def test_listing_imports_neither_broker_nor_model(greenroom: Greenroom, tmp_path: Path) -> None:
    program = """
import sys
from console.main import run
for arguments in (["tasks", "list"], ["queues", "list"], ["documents", "list"], ["search", "tea"]):
    assert run(arguments) == 0, arguments
print(*sorted(sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), "GREENROOM_HOME": str(greenroom.home)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert not {"dramatiq", "torch", "transformers", "sqlalchemy"} & set(done.stderr.split())


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    program = """
from console.signals import stop_event
stopping = stop_event()
print("ready", flush=True)
stopping.wait()
print("stopping", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.fixture(scope="module")
def alone() -> Iterator[Greenroom]:
    """The command with a home where nothing runs."""
    with quick_home() as folder:
        yield Greenroom(folder / "home")


@pytest.mark.timeout(300)  # the model is loaded twice, on whatever the machine has left
def test_demo_ingests_and_finds_then_knows_its_documents(alone: Greenroom) -> None:
    first = alone.ok("demo")
    assert "9 documents: 9 completed" in first
    assert "1. lighthouse-keepers-manual.pdf, page 3" in first
    assert "1. tides.html, section “Why there are two tides a day" in first
    assert "1. theatre-glossary.md, section “A glossary of the theatre" in first
    assert "What to try next:" in first
    second = alone.ok("demo")
    assert "nothing was embedded again" in second
    assert "1. lighthouse-keepers-manual.pdf, page 3" in second


def test_a_search_alone_brings_server_and_workers_and_leaves_neither(alone: Greenroom) -> None:
    """Runs after the demo, which filled the home."""
    query = "what does the keeper write when nothing happened"
    [hit] = alone.json("search", query, "--limit", "1")["hits"]
    assert (hit["document_name"], hit["page"]) == ("lighthouse-keepers-manual.pdf", 7)
    assert running_url(alone.home) is None


def test_an_interrupted_command_stops_what_it_started() -> None:
    with quick_home() as home, Greenroom(home).running("ingest", str(PROJECT / "console" / "samples")) as running:
        eventually(lambda: "stored: 9 of 9" in running.said() or running.process.poll() is not None, 60)
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert running.stop(signal.SIGTERM) == 1
        assert "interrupted" in running.said()
        assert "Traceback" not in running.said()
    assert psutil.wait_procs(children, timeout=20)[1] == []
