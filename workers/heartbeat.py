"""The heartbeat: a small process beside each worker that renews its leases with one statement.

A process of its own, because a handler that holds the interpreter would starve a thread. It renews nothing for a parent
that is stopped (SIGSTOP), expires the parent's leases at once when the parent is gone without a word, and ends with it.
Run as `python -m workers.heartbeat`; its configuration is the first line of its standard input, as JSON, and each later
line says how late the parent's loops are. `stop` ends it in order.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from core.errors import UnavailableError
from db import queue
from db.connection import Connection, KeptConnection

_LOOK_SECONDS = 1.0
_ROOT = Path(__file__).resolve().parent.parent


class Heartbeat:
    """The parent's side: starts the process, starts it anew should it die, and tells it how late the loops are."""

    name = "heartbeat"

    def __init__(
        self,
        *,
        url: str,
        pooled: bool,
        process: queue.ProcessRow,
        lease_seconds: float,
        loops_late: Callable[[], dict[str, float]],
    ) -> None:
        self._config = {
            "url": url,
            "pooled": pooled,
            "parent": os.getpid(),
            "lease_seconds": lease_seconds,
            "process": {name: getattr(process, name) for name in queue.ProcessRow.__slots__} | {"id": str(process.id)},
        }
        self._pause = max(lease_seconds / 6, 0.5)
        self._loops_late = loops_late
        self._child: subprocess.Popen[bytes] | None = None

    def run_once(self) -> float:
        """Tell how late the loops are; start the process if it is not there."""
        ended = self._child.poll() if self._child is not None else None
        if self._child is None or ended is not None:
            # The pipe's end is not inherited by other children (close_fds), so its closing means that we are gone.
            # `-P`: a folder that happens to be the working directory must not shadow our packages.
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.heartbeat"],
                stdin=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
            )
            self._write(self._config)
        self._write(self._loops_late())
        if ended is not None:
            # Seen by the loop's supervisor: one that ends again and again is a failing loop, not a silent one.
            raise RuntimeError(
                f"the heartbeat's process had ended by itself (exit status {ended}) and was started anew"
            )
        return self._pause

    def close(self) -> None:
        """End the process in order: it renews no more, and expires nothing."""
        if self._child is None or self._child.stdin is None:
            return
        try:
            self._child.stdin.write(b"stop\n")
            self._child.stdin.close()
        except OSError:
            pass  # gone already, which is what we want
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _write(self, value: Any) -> None:
        if self._child is None or self._child.stdin is None:
            raise RuntimeError("the heartbeat's process was not started")
        self._child.stdin.write(json.dumps(value).encode() + b"\n")
        self._child.stdin.flush()


class Beating:
    """The child's side: renew, beat, and watch the parent."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._connection = KeptConnection(config["url"], name="heartbeat", pooled=config["pooled"], timeout=5)
        self._parent: int = config["parent"]
        self._lease_seconds: float = config["lease_seconds"]
        self._process = queue.ProcessRow(**(config["process"] | {"id": UUID(config["process"]["id"])}))
        self._late: dict[str, float] = {}
        self._heard_at = time.monotonic()
        self._next = 0.0

    def run(self) -> None:
        """Beat until told to stop or left alone."""
        buffer = b""
        while True:
            readable, _, _ = select.select([0], [], [], _LOOK_SECONDS)
            if readable:
                data = os.read(0, 65536)
                if not data:
                    self._parent_is_gone()
                    return
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                if b"stop" in lines:
                    return
                self._hear(lines)
            elif os.getppid() != self._parent:
                self._parent_is_gone()
                return
            if time.monotonic() >= self._next and not self._parent_is_stopped():
                self._next = time.monotonic() + self._lease_seconds / 3
                self._try(self._beat)

    def _hear(self, lines: list[bytes]) -> None:
        for line in lines:
            self._late = json.loads(line)
            self._heard_at = time.monotonic()

    def _beat(self, connection: Connection) -> None:
        queue.renew(connection, self._process.id, self._lease_seconds)
        # The parent speaks every few seconds; one that does not has a loop that hangs, or all of them.
        silent = max(time.monotonic() - self._heard_at - self._lease_seconds / 3, 0.0)
        queue.beat(connection, self._process, {name: late + silent for name, late in self._late.items()})

    def _parent_is_gone(self) -> None:
        """The parent died without a word: nothing of its can commit any more, so its attempts may start anew."""

        def give_up(connection: Connection) -> None:
            queue.expire_leases(connection, self._process.id)
            queue.unregister_process(connection, self._process.id)

        self._try(give_up)

    def _parent_is_stopped(self) -> bool:
        try:
            state = (
                Path(f"/proc/{self._parent}/stat")
                .read_text(encoding="ascii", errors="replace")
                .rpartition(")")[2]
                .split()[0]
            )
        except (OSError, IndexError):
            return False  # no /proc here: a stopped parent is not told apart
        return state in {"T", "t"}

    def _try(self, act: Callable[[Connection], None]) -> None:
        try:
            act(self._connection.get())
        except Exception as error:
            self._connection.close()
            kind = error.__cause__ if isinstance(error, UnavailableError) and error.__cause__ else error
            sys.stderr.write(f"heartbeat: {type(kind).__name__}, trying again\n")
            self._next = time.monotonic() + _LOOK_SECONDS


def main() -> None:
    """Run the child."""
    # A signal to the whole group is for the parent, which drains under our beats and then says stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first = bytearray()
    while not first.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return
        first += piece
    Beating(json.loads(first)).run()


if __name__ == "__main__":
    main()
