"""Ends what a killed run has left behind, so that the next start finds a folder that nobody writes to.

Rarely there is anything: the supervisor outlives its owner, and the kernel signals the server when the supervisor is
killed. Linux only, as the proof of whose process it is comes from /proc; elsewhere PostgreSQL's own check of its pid
file decides.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from core.errors import EmbeddedServerError
from db.embedded.layout import Layout

_FAST_SHUTDOWN_SECONDS = 15
_KILL_SECONDS = 5


def clear_leftovers(layout: Layout) -> None:
    """End the processes and remove the files of earlier runs. The caller holds the home's lock."""
    if sys.platform == "linux":
        _end_processes(layout.unfinished)
        _end_processes(layout.data)
        # No process is in the folder any more. PostgreSQL would refuse to start if another program of the same user
        # has the number of the old postmaster by now, which is usual in a container.
        (layout.data / "postmaster.pid").unlink(missing_ok=True)
    if layout.unfinished.exists():
        shutil.rmtree(layout.unfinished)


def _end_processes(folder: Path) -> None:
    """A fast shutdown where a postmaster lives; then QUIT and KILL for all, as orphaned backends obey nobody."""
    if pids := _processes_in(folder):
        _signal_and_wait(folder, _postmaster_among(folder, pids), signal.SIGINT, _FAST_SHUTDOWN_SECONDS)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        _signal_and_wait(folder, _processes_in(folder), number, _KILL_SECONDS)
    if pids := _processes_in(folder):
        raise EmbeddedServerError(f"a server that runs in {folder} (pids {pids}) cannot be stopped: end it by hand")


def _signal_and_wait(folder: Path, pids: list[int], number: signal.Signals, seconds: float) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while pids and _processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.02)  # not our children: there is nothing to wait on but /proc


def _processes_in(folder: Path) -> list[int]:
    """PostgreSQL processes whose working directory this is: true of each of them, whatever pid file or path say."""
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return []
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _works_in(entry, wanted)]


def _works_in(process: Path, wanted: os.stat_result) -> bool:
    try:
        if (process / "comm").read_text().strip() not in {"postgres", "initdb"}:
            return False
        return os.path.samestat((process / "cwd").stat(), wanted)
    except OSError:
        return False  # ended meanwhile, or another user's


def _postmaster_among(folder: Path, pids: list[int]) -> list[int]:
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return []
    return [pid] if pid in pids else []
