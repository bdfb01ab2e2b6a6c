"""`greenroom retention archives` and `restore`: what stands in storage, and rows of it back in their table."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import processes
from db.embedded import EmbeddedServer
from tests.support.command import Inline
from tests.support.factory import Factory
from tests.support.restoring import EVENTS, MESSAGES, NEXT, Shelf, decision, shelf_of, talk
from tests.support.tenants import new_tenant


@pytest.fixture(scope="module")
def shelf(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """Two tenants' events of two months, and one's messages, archived."""
    folder = tmp_path_factory.mktemp("archives")
    with shelf_of(server_without_fsync, template_database, folder) as shelf:
        yield shelf


@pytest.fixture(scope="module")
def ours(shelf: Shelf) -> Iterator[Factory]:
    """Whose rows they are."""
    with new_tenant(shelf.database) as ours, new_tenant(shelf.database) as theirs:
        decision(ours)
        decision(ours, NEXT)
        decision(theirs)
        talk(ours)
        shelf.archive(EVENTS)
        shelf.archive(MESSAGES)
        yield ours


@pytest.fixture
def greenroom(shelf: Shelf, ours: Factory, tmp_path: Path) -> Inline:
    """The command over the database, with its archives."""
    url = shelf.database.owner_url
    return Inline(tmp_path, {"GREENROOM_DATABASE_URL": url, "GREENROOM_ARCHIVE_URL": f"file://{shelf.folder}"})


@contextmanager
def worker(shelf: Shelf) -> Iterator[None]:
    """Somebody who works off what commands enqueue."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            shelf.line.run_once()

    processes.beat(shelf.line.worker, shelf.line.process)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            over.set()
    working.result()


def listed(greenroom: Inline, *arguments: str) -> list[tuple[str, str, int]]:
    """Return table, month and rows of the parts that are listed."""
    found = greenroom.json("retention", "archives", *arguments)["archives"]
    return [(each["table"], each["month"], each["rows"]) for each in found]


def test_archives_are_listed_by_table_month_and_whom_they_speak_of(greenroom: Inline, ours: Factory) -> None:
    both, second = (EVENTS, "2020-02", 2), (EVENTS, "2020-03", 1)
    talks = (MESSAGES, "2020-02", 3)
    assert listed(greenroom) == [talks, both, second]
    assert listed(greenroom, EVENTS, "--month", "2020-03") == [second]
    assert listed(greenroom, "--tenant", str(ours.tenant_id)) == [talks, both, second]
    assert listed(greenroom, "--subject", f"user:{ours.tenant_id}") == []
    printed = greenroom.ok("retention", "archives", EVENTS)
    assert "2020-02" in printed
    assert f"archive {EVENTS}" in printed


def test_what_is_damaged_is_found_and_named(greenroom: Inline, shelf: Shelf) -> None:
    assert "as they were written" in greenroom.run("retention", "archives", "--verify").stderr
    file = next(each for each in shelf.files() if EVENTS in str(each))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    done = greenroom.run("retention", "archives", "--verify", "--json")
    file.write_bytes(whole)
    assert done.returncode == 1
    assert (
        f"1 of 3 parts are damaged: the archive's file {file.relative_to(shelf.folder)} has other bytes" in done.stderr
    )
    assert [len(each.get("problems", [])) for each in json.loads(done.stdout)["archives"]].count(1) == 1


def test_a_restore_is_followed_to_its_end(greenroom: Inline, shelf: Shelf, ours: Factory) -> None:
    with worker(shelf):
        done = greenroom.run(
            "retention", "restore", EVENTS, "--month", "2020-02", "--tenant", str(ours.tenant_id), "--keep", "2 days"
        )
    assert done.returncode == 0, done.stderr
    assert "3 rows of governance.governance_events and what went along restored, 0 references set" in done.stdout
    assert len(shelf.of(EVENTS, ours.tenant_id)) == 1
    with worker(shelf):
        end = greenroom.json("retention", "restore", EVENTS, "--month", "2020-02", "--to", "2020-03")
    assert (end["result"]["restored"], end["result"]["there"]) == (6, 3)
    requested = "SELECT count(*) FROM audit.audit_events WHERE event_type = 'archive.restore_requested'"
    assert shelf.database.value(requested) == 2


def test_a_restore_that_is_refused_says_why(greenroom: Inline, shelf: Shelf) -> None:
    with worker(shelf):
        done = greenroom.run("retention", "restore", "mail.emails", "--all")
    assert done.returncode == 1
    assert "not all of mail.emails is restored: no archive holds such rows of mail.emails" in done.stderr


def test_a_restore_can_be_left_to_itself(greenroom: Inline, shelf: Shelf) -> None:
    task_id = greenroom.json("retention", "restore", MESSAGES, "--all", "--no-wait")["task_id"]
    assert shelf.database.value("SELECT status FROM queue.outbox_tasks WHERE id = %s", (task_id,)) == "pending"
    assert shelf.line.run_once() == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["archives", "--month", "2020"], "'2020' is no month: write 2026-01"),
        (["archives", "--subject", "cat:1"], "'cat:1' is no subject"),
        (["archives", "--subject", "user:1"], "'1' is not an id"),
        (["archives", "--tenant", "default", "--subject", "user:1"], "give one of --tenant and --subject"),
        (["restore", MESSAGES], f"say which rows of {MESSAGES} are to come back: --month, --tenant or --row, or --all"),
        (["restore", MESSAGES, "--all", "--month", "2020-02"], "--month, --tenant or --row, or --all"),
        (["restore", "messages", "--all"], "table: "),
        (["restore", MESSAGES, "--all", "--keep", "ever"], "'ever' is no span of time"),
        (["restore", MESSAGES, "--all", "--keep", "0 days"], "keep: "),
        (
            ["restore", MESSAGES, "--month", "2020-03", "--to", "2020-02"],
            "--to 2020-02 is before --month 2020-03: name the earlier one first",
        ),
        (["restore", MESSAGES, "--all", "--without", "a b"], "without"),
        (["orphans", "--yes"], "--yes says yes to --remove: without that nothing is removed"),
    ],
)
def test_a_wrong_call_is_one_sentence(greenroom: Inline, arguments: list[str], said: str) -> None:
    done = greenroom.run("retention", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
