"""One owner at a time, and every kind of kill: committed data survives, and nothing is left running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import EmbeddedServerError
from db.embedded import EmbeddedServer, cluster, running_url
from db.embedded.identity import server_identity
from db.embedded.layout import Layout
from db.embedded.programs import server_programs
from tests.support.home import OWNER_PROGRAM, PROJECT, owner_process, processes_of, query
from tests.support.waiting import eventually


def test_one_owner_at_a_time_and_commands_beside_it_connect(home: Path) -> None:
    assert running_url(home) is None
    with owner_process(home) as (owner, url):
        with pytest.raises(
            EmbeddedServerError, match=rf"another greenroom \(pid {owner.pid}, since .*set GREENROOM_HOME"
        ):
            EmbeddedServer(home).start()
        assert running_url(home) == url
        assert query(url, "SELECT 1") == [(1,)]
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.wait(10) == 0
        eventually(lambda: processes_of(home) == [])
    assert running_url(home) is None


@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["alone", "with-a-forked-child"])
def test_server_ends_with_a_killed_owner_and_committed_data_survives(home: Path, arguments: tuple[str, ...]) -> None:
    with owner_process(home, *arguments) as (owner, url):
        query(url, "CREATE TABLE kept AS SELECT 7 AS seven")
        children = [child for child in psutil.Process(owner.pid).children() if child.cmdline()[1:2] == ["-c"]]
        assert len(children) == len(arguments)
        owner.kill()
        owner.wait()
        with EmbeddedServer(home) as server:  # at once: it waits for the shutdown that is under way
            assert query(server.url(), "SELECT seven FROM kept") == [(7,)]
        for child in children:
            child.kill()
        eventually(lambda: processes_of(home) == [])


def test_nothing_is_left_when_owner_and_supervisor_are_killed_together(home: Path) -> None:
    with owner_process(home) as (owner, url):
        query(url, "CREATE TABLE kept AS SELECT 7 AS seven")
        (supervisor,) = psutil.Process(owner.pid).children()
        supervisor.kill()
        owner.kill()
        owner.wait()
        eventually(lambda: processes_of(home) == [])
    with EmbeddedServer(home) as server:
        assert query(server.url(), "SELECT seven FROM kept") == [(7,)]


def test_a_killed_server_is_noticed_and_recovers(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    query(server.url(), "CREATE TABLE kept AS SELECT 7 AS seven")
    os.kill(int((home / "postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    eventually(lambda: not server.is_running)
    server.stop()
    with EmbeddedServer(home) as again:
        assert query(again.url(), "SELECT seven FROM kept") == [(7,)]


def test_an_orphaned_server_is_ended_before_a_new_one_starts(home: Path) -> None:
    data = Layout(home).data
    identity = server_identity(data)
    with subprocess.Popen(
        [server_programs() / "postgres", "-D", cluster.data_argument(data, identity)],
        cwd=data,
        env=cluster.ENVIRONMENT,
        user=identity.uid,
        group=identity.gid,
        extra_groups=identity.extra_groups,
        stderr=subprocess.DEVNULL,
    ) as orphan:
        eventually((data / ".s.PGSQL.5432").exists)
        with EmbeddedServer(home) as server:
            assert orphan.wait(5) == 0
            assert query(server.url(), "SELECT 1") == [(1,)]


def test_a_pid_file_whose_number_another_program_has_by_now_does_not_matter(home: Path) -> None:
    identity = server_identity(home / "postgres/data")
    with subprocess.Popen(["/bin/sleep", "60"], cwd="/", user=identity.uid) as stranger:
        (home / "postgres/data/postmaster.pid").write_text(f"{stranger.pid}\n/nowhere\n0\n5432\n\n\n")
        with EmbeddedServer(home) as server:
            assert query(server.url(), "SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


def test_a_first_start_that_is_killed_is_repaired_by_the_next(new_home: Path) -> None:
    for stage in ("data.unfinished/base", "data/postmaster.pid"):  # in the midst of initdb; before role and database
        program = [sys.executable, "-c", OWNER_PROGRAM, str(new_home)]
        with subprocess.Popen(program, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as owner:
            eventually((new_home / "postgres" / stage).exists, 60)
            owner.kill()
    with EmbeddedServer(new_home) as server:
        assert query(server.url(), "SELECT '[1]'::vector::text") == [("[1]",)]
    assert not (new_home / "postgres/data.unfinished").exists()
