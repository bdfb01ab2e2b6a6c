"""Homes for the tests of the embedded server, and who runs in them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from workers.testing.database import _memory

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


def copy(source: Path, folder: Path) -> None:
    """With owners; sparse, as a fresh cluster is mostly zeroes."""
    subprocess.run(["/bin/cp", "-a", "--sparse=always", source, folder], check=True)


@contextlib.contextmanager
def quick_home() -> Iterator[Path]:
    """A home in memory if there is room: a server's start and its stop wait for a disk, for seconds beside others."""
    home = Path(tempfile.mkdtemp(prefix="gr-", dir=_memory()))
    try:
        yield home
    finally:
        shutil.rmtree(home)


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
