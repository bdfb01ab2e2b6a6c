"""`EmbeddedServer`: start, stop and reach the PostgreSQL server of one home folder."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from core.errors import EmbeddedServerError
from db.embedded import cluster
from db.embedded.identity import Identity, server_identity
from db.embedded.layout import Layout, reachable_folder, remove_link, server_url
from db.embedded.leftovers import clear_leftovers
from db.embedded.ownership import Record, lock, read_record, write_record
from db.embedded.programs import server_programs

OWNER = "greenroom_owner"
DATABASE = "greenroom"

_START_SECONDS = 60  # after a crash the server replays up to max_wal_size first
_STOP_SECONDS = 30  # more than the supervisor's three shutdowns take together
_LOG_BYTES = 4 * 1024 * 1024
_LOG_LINES_SHOWN = 12
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


class EmbeddedServer:
    """The server of `home`, run by this process and gone with it. `settings` go over our postgresql.conf defaults.

    Not for several threads at once: who starts it, stops it.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self._layout = Layout(home.absolute())
        self._settings = dict(settings or {})
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    @property
    def is_running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> None:
        """Bring the server up with role and database in place; does nothing if this object runs it already.

        Raises EmbeddedServerError, with nothing left running, if another process owns the home or the server fails.
        """
        if self.is_running:
            return
        _check_platform()
        self._layout.create()
        with _locked(self._layout) as descriptor:
            log_start = _cut_log(self._layout.log)
            self._launch(descriptor)
        try:
            self._wait_until_ready()
            self._bootstrap()
        except BaseException as error:
            self.stop()
            if isinstance(error, psycopg.Error | _ServerEndedError):
                raise EmbeddedServerError(self._start_failure(error, log_start)) from error
            raise

    def stop(self) -> None:
        """Shut the server down and wait for its end; twice is fine."""
        supervisor, self._supervisor, self._folder = self._supervisor, None, None
        if supervisor is None or supervisor.stdin is None:
            return
        with contextlib.suppress(OSError):  # it has ended by itself
            # A word, because a process forked by this one may hold the pipe open.
            supervisor.stdin.write(b"stop\n")
            supervisor.stdin.close()
        try:
            supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()  # the server has it as parent-death signal
            supervisor.wait()

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """An address for psycopg and SQLAlchemy, valid until the server stops."""
        if self._folder is None:
            raise EmbeddedServerError(f"the embedded server of {self._layout.home} is not running: start it first")
        return server_url(self._folder, user, database)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, lock_descriptor: int) -> None:
        """Make the data folder ready and start the supervisor, which takes the lock over."""
        layout = self._layout
        _remove_old_link(layout)
        clear_leftovers(layout)
        identity, programs = server_identity(layout.data), server_programs()
        cluster.initialise(layout, programs, identity)
        cluster.configure(layout.data, identity, self._settings)
        folder = reachable_folder(layout.data)
        write_record(lock_descriptor, Record.of_this_process(folder))
        plan = _plan(layout, programs, identity, folder)
        with layout.log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), json.dumps(plan)],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[lock_descriptor],
                start_new_session=True,  # Ctrl-C is the owner's to handle: it would shut the server down under it
            )
        self._folder = folder

    def _wait_until_ready(self) -> None:
        """Connect until it works: the waiting is for the supervisor's end, so that a failed start is seen at once."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(cluster.SUPERUSER, "postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            else:
                return
            if self._ended_within(seconds=0.02):
                raise _ServerEndedError("it ended")

    def _ended_within(self, seconds: float) -> bool:
        if self._supervisor is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(seconds)
        return not self.is_running

    def _bootstrap(self) -> None:
        """Create role, database and extension; each statement by itself repeatable, so that every start repairs."""
        with psycopg.connect(self.url(cluster.SUPERUSER, "postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'greenroom_owner'").fetchone():
                connection.execute("CREATE ROLE greenroom_owner LOGIN CREATEROLE NOSUPERUSER NOBYPASSRLS")
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'greenroom'").fetchone():
                connection.execute("CREATE DATABASE greenroom OWNER greenroom_owner")
            # who migrates lets operators see how long others' transactions are open; a superuser's to give
            connection.execute(f"GRANT pg_read_all_stats TO {OWNER} WITH ADMIN OPTION")
        with psycopg.connect(self.url(cluster.SUPERUSER), autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")  # "already exists, skipping"
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute("ALTER EXTENSION vector UPDATE")  # after an upgrade of the package

    def _start_failure(self, error: Exception, log_start: int) -> str:
        with self._layout.log.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").splitlines()
        shown = "\n".join(lines[-_LOG_LINES_SHOWN:]) or str(error)
        return f"the embedded server of {self._layout.home} did not start; its log {self._layout.log} says:\n{shown}"


def running_url(home: Path, user: str = OWNER, database: str = DATABASE) -> str | None:
    """The address of the server that another process runs for that home, or None; found by connecting to it."""
    record = read_record(Layout(home.absolute()).owner)
    if record is None:
        return None
    url = server_url(Path(record.folder), user, database)
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return None
    return url


class _ServerEndedError(Exception):
    """The server ended while it was being waited for."""


def _check_platform() -> None:
    if sys.platform == "linux" or (sys.platform == "darwin" and os.geteuid() != 0):
        return
    raise EmbeddedServerError(
        f"the embedded server runs on Linux, and on macOS for an ordinary user, not for this user on {sys.platform}: "
        "set GREENROOM_DATABASE_URL to use another server"
    )


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[int]:
    """Hold the home's lock; a server started meanwhile goes on holding it."""
    try:
        descriptor = lock(layout.owner, patience_seconds=_STOP_SECONDS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)  # ours only: the supervisor's keeps the lock
    except OSError as error:
        raise EmbeddedServerError(f"cannot prepare the embedded server in {layout.root}: {error}") from error


def _plan(layout: Layout, programs: Path, identity: Identity, folder: Path) -> dict[str, Any]:
    """What `supervisor.py` reads."""
    return {
        "owner_pid": os.getpid(),
        "command": [str(programs / "postgres"), "-D", cluster.data_argument(layout.data, identity)],
        "folder": str(layout.data),
        "environment": cluster.ENVIRONMENT,
        "uid": identity.uid,
        "gid": identity.gid,
        "extra_groups": identity.extra_groups,
        "link": str(folder) if folder != layout.data else None,
    }


def _remove_old_link(layout: Layout) -> None:
    if record := read_record(layout.owner):
        remove_link(Path(record.folder), layout.data)


def _cut_log(path: Path) -> int:
    """Keep one old log beside the current one, each bounded at a start; returns where this start's lines begin."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= _LOG_BYTES:
        return size
    path.replace(path.with_name(f"{path.name}.1"))
    return 0
