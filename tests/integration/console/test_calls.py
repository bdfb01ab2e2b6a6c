"""Wrong calls and failures: the exit status, one sentence on standard error, no traceback."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from console import runtime
from console.main import run
from tests.support.command import Greenroom

UNREACHABLE = {"GREENROOM_DATABASE_URL": "postgresql://greenroom_operator:hunter2@127.0.0.1:9/greenroom"}


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Done]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs the command in this process: none of these calls comes as far as starting anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREENROOM_HOME", str(tmp_path / "home"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(*arguments: str, **settings: str) -> Done:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        runtime.settings.cache_clear()
        status = run(arguments)
        return Done(status, *capsys.readouterr())

    yield call
    runtime.settings.cache_clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see `greenroom --help`"),
        (["search"], "Missing argument 'query'; see `greenroom search --help`"),
        (["search", "x", "--limit", "0"], "--limit"),
        (["documents", "list", "--status", "fine"], "--status"),
        (["ingest", "/nowhere/at/all.txt"], "names no file"),
        (["ingest", ""], "names no file"),
        (["relay"], "set GREENROOM_BROKER_URL"),
        (["worker"], "set GREENROOM_BROKER_URL"),
        (["tasks", "show", "seven"], "is not an id"),
    ],
)
def test_a_wrong_call_ends_with_2(call: Call, arguments: list[str], says: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith("greenroom: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"GREENROOM_WORKER_THREADS": "many"}, "GREENROOM_WORKER_THREADS: "),
        ({"GREENROOM_WROKER_THREADS": "2"}, "unknown setting GREENROOM_WROKER_THREADS"),
        ({"GREENROOM_DATABASE_URL": "mysql://root@localhost/x"}, "must begin with postgresql://"),
        ({"GREENROOM_DATABASE_URL": "postgresql:///x"}, "names no user"),
    ],
)
def test_a_wrong_setting_ends_with_2(call: Call, settings: dict[str, str], says: str) -> None:
    done = call("tasks", "list", **settings)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks", "list"],
        ["search", "tea"],
        ["enqueue", "a.b"],
        ["db", "status"],
        ["db", "migrate"],
        ["db", "check"],
        ["db", "seed", "--yes"],
        ["db", "downgrade", "0013", "--yes"],
    ],
)
def test_a_database_that_does_not_answer_is_one_sentence(call: Call, arguments: list[str]) -> None:
    owner = {"GREENROOM_DATABASE_URL": "postgresql://owner:hunter2@127.0.0.1:9/greenroom"}
    done = call(*arguments, **owner)
    assert done.returncode == 1
    assert done.stderr.startswith("greenroom: cannot connect to the database")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_doctor_says_that_the_database_does_not_answer(call: Call) -> None:
    done = call("doctor", "--json", **UNREACHABLE)
    assert done.returncode == 1
    assert '"is_well": false' in done.stdout


def test_the_owner_is_needed_to_migrate(call: Call) -> None:
    done = call("db", "migrate", **UNREACHABLE)
    assert done.returncode == 2
    assert "owner" in done.stderr


def test_a_home_that_cannot_be_is_one_sentence(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("tasks", "list", GREENROOM_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1
    assert "set GREENROOM_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help(call: Call) -> None:
    assert call("--version").stdout.startswith("greenroom")
    assert "ingest" in call("--help").stdout
    bare = call()
    assert bare.returncode == 2
    assert "Commands:" in bare.stderr


def test_debug_shows_where(call: Call) -> None:
    done = call("--debug", "tasks", "show", "seven")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_the_process_itself_ends_with_the_status(tmp_path: Path) -> None:
    done = Greenroom(tmp_path).run("tasks", "show", "seven")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
