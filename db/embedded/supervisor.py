"""Runs postgres as its child and ends it when the owner asks, ends or is killed. A script, not imported by anything.

It stands between owner and server because the kernel's parent-death signal alone does not do: it fires when the owner's
*thread* that started the server ends, and a fast shutdown may need a second signal after a while. Standard library
only, and started with -I -S, so that it is up in milliseconds and independent of the environment.

The owner is watched twice: standard input ends with it (every platform), and a pidfd reports its end even where a child
that it forked still holds the pipe (Linux).
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# Fast shutdown first: it commits nothing, loses nothing and writes a checkpoint. The others leave crash recovery to the
# next start. Their sum is ownership's patience and the owner's in `server.py`.
_SHUTDOWNS = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_PR_SET_PDEATHSIG = 1


def main() -> int:
    plan = json.loads(sys.argv[1])
    signals = _signals_as_bytes()
    owner = _owner_descriptors(plan["owner_pid"])
    server = _start(plan)
    try:
        _wait_for_end(server, signals, owner)
        return _stop(server)
    finally:
        if plan["link"]:
            Path(plan["link"]).unlink(missing_ok=True)


def _signals_as_bytes() -> int:
    """Turn signals into bytes on a pipe, so that one select waits for everything."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader


def _owner_descriptors(pid: int) -> list[int]:
    descriptors = [sys.stdin.fileno()]
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel or a strict seccomp filter: the pipe remains
            descriptors.append(os.pidfd_open(pid))
    return descriptors


def _start(plan: dict[str, Any]) -> "subprocess.Popen[bytes]":
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        # Runs after the change of user, which would clear the setting. Linux only: macOS has no such call.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != supervisor:
                os._exit(1)

    return subprocess.Popen(
        plan["command"],
        cwd=plan["folder"],
        env=plan["environment"],
        user=plan["uid"],
        group=plan["gid"],
        extra_groups=plan["extra_groups"],
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=die_with_supervisor,
    )


def _wait_for_end(server: "subprocess.Popen[bytes]", signals: int, owner: list[int]) -> None:
    """Return when the server has ended by itself, the owner has ended or asks for the end, or a signal does."""
    while server.poll() is None:
        ready, _, _ = select.select([signals, *owner], [], [])
        if ready != [signals] or set(os.read(signals, 64)) != {signal.SIGCHLD}:
            return


def _stop(server: "subprocess.Popen[bytes]") -> int:
    for number, grace_seconds in _SHUTDOWNS:
        server.send_signal(number)  # does nothing once the server has ended
        with contextlib.suppress(subprocess.TimeoutExpired):
            return server.wait(grace_seconds)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as problem:
        sys.exit(f"greenroom: cannot run postgres: {problem}")
