"""The heartbeat: a small process beside each worker that renews its leases with one statement, and hears for it.

A process of its own, because a handler that holds the interpreter would starve a thread. It renews nothing for a
parent that is stopped (SIGSTOP), expires the parent's leases at once when the parent is gone without a word, and ends
with it. While the parent runs something, it asks the database which attempts were cancelled or lost, and tells the
parent. A parent that does not react within the grace time is given up: killed. What it ran is handed back if it was
told what to end, and else counted as lost: any of it may be what holds the interpreter past its neighbour's limit.

Run as `python -m workers.heartbeat`; its configuration is the first line of its standard input, as JSON, and each later
line is a word of the parent's. `stop` ends it in order. On its standard output it writes `null` when it watches, and
then orders, a line of JSON each.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from core.errors import UnavailableError
from db import leases, processes, queue
from db.connection import Connection, KeptConnection

_LOOK_SECONDS = 1.0
# While the parent runs something we ask the database this often. It speaks each second then, else every other.
_ASK_SECONDS = 0.75
_SILENT_SECONDS = 3.0
# What the parent has beyond its own grace time, before its child does what it could not.
_PATIENCE_SECONDS = 2.0
# An order is a line that the pipe takes whole or not at all (PIPE_BUF), each character in up to six bytes.
_REASON_LIMIT = 600


class Beating:
    """Renews, beats, asks after the parent's attempts, and watches the parent (workers/companion.py)."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._connection = KeptConnection(
            config["url"], name="heartbeat", pooled=config["pooled"], timeout=5, answer_seconds=5.0
        )
        self._parent: int = config["parent"]
        self._lease_seconds: float = config["lease_seconds"]
        self._grace_seconds: float = config["interrupt_seconds"] + _PATIENCE_SECONDS
        self._process = processes.ProcessRow(**(config["process"] | {"id": UUID(config["process"]["id"])}))
        self._late: dict[str, float] = {}
        self._is_busy = False
        self._attempts: queue.Claims = ()
        self._heard_at = time.monotonic()
        self._next = 0.0
        self._ask_at = 0.0
        self._ordered: dict[leases.Order, float] = {}
        self._deadline: float | None = None

    def run(self) -> None:
        """Beat until told to stop or left alone, or until the parent had to be given up."""
        buffer = b""
        while True:
            readable, _, _ = select.select([0], [], [], _ASK_SECONDS if self._is_busy else _LOOK_SECONDS)
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
            if self._parent_is_stopped():
                self._heard_at, self._deadline, self._ordered = time.monotonic(), None, {}  # it cannot react
                continue
            self._look_after()
            if self._is_stuck():
                self._give_parent_up()
                return

    def _hear(self, lines: list[bytes]) -> None:
        for line in lines:
            word = json.loads(line)
            self._late, self._is_busy = word["late"], word["is_busy"]
            self._attempts = [(UUID(task_id), claim) for task_id, claim in word["attempts"]]
            self._heard_at, self._deadline = time.monotonic(), None

    def _look_after(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._lease_seconds / 3
            self._try(self._beat)
        # One that is silent may have begun something that keeps it from saying so.
        if (self._is_busy or self._is_silent()) and now >= self._ask_at:
            self._ask_at = now + _ASK_SECONDS
            self._try(self._ask)

    def _beat(self, connection: Connection) -> None:
        leases.renew(connection, self._process.id, self._lease_seconds)
        # The parent speaks every few seconds; one that does not has a loop that hangs, or all of them.
        silent = max(time.monotonic() - self._heard_at - self._lease_seconds / 3, 0.0)
        processes.beat(connection, self._process, {name: late + silent for name, late in self._late.items()})

    # ------------------------------------------------------------------------------------------- orders

    def _ask(self, connection: Connection) -> None:
        """Tell the parent, once each, which of its attempts were cancelled or are not its own any more."""
        now = time.monotonic()
        found = leases.orders(connection, self._process.id, self._attempts)
        told = {order for order in found if order in self._ordered or self._tell(order)}
        self._ordered = {order: self._ordered.get(order, now) for order in told}
        if self._deadline is None and self._is_silent():
            # While the parent is silent it begins nothing: what it runs now is what it is stuck in, if it is.
            seconds = leases.next_deadline(connection, self._process.id)
            self._deadline = None if seconds is None else now + max(seconds, 0.0)

    def _is_silent(self) -> bool:
        return time.monotonic() > self._heard_at + _SILENT_SECONDS

    def _tell(self, order: leases.Order) -> bool:
        reason = order.reason and order.reason[:_REASON_LIMIT]
        try:
            word = json.dumps((order.task_id.hex, order.claim_number, reason), ensure_ascii=False)
            os.write(1, word.encode() + b"\n")
        except BlockingIOError:  # the parent does not read: it is told again, should it ever
            return False
        return True

    def _is_stuck(self) -> bool:
        """Return whether the parent has not ended what it should have, in its grace time and ours."""
        limit = time.monotonic() - self._grace_seconds
        asked = [order for order, at in self._ordered.items() if at < limit and order.reason is not None]
        # An attempt that waits for its turn, or whose end is being written, is no handler that disobeys.
        running = set(self._attempts)
        is_disobeyed = any(self._is_silent() or (order.task_id, order.claim_number) in running for order in asked)
        return is_disobeyed or self._is_overdue()

    def _is_overdue(self) -> bool:
        return self._deadline is not None and self._deadline < time.monotonic() - self._grace_seconds

    def _give_parent_up(self) -> None:
        """End a parent that holds its interpreter; one that was told to end an attempt is stuck in that one."""
        sys.stderr.write(f"heartbeat: process {self._parent} does not react and is killed\n")
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._parent, signal.SIGKILL)
        while os.getppid() == self._parent:
            time.sleep(0.01)
        if not self._is_overdue():
            self._try(lambda connection: leases.hand_back(connection, self._process.id))
        self._parent_is_gone()

    # ------------------------------------------------------------------------------------------- the parent

    def _parent_is_gone(self) -> None:
        """The parent died without a word: nothing of its can commit any more, so its attempts may start anew."""

        def give_up(connection: Connection) -> None:
            leases.expire_leases(connection, self._process.id)
            processes.unregister_process(connection, self._process.id)

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

    def _try(self, act: Callable[[Connection], Any]) -> None:
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
    os.set_blocking(1, False)
    first = bytearray()
    while not first.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return
        first += piece
    beating = Beating(json.loads(first))
    os.write(1, b"null\n")
    beating.run()


if __name__ == "__main__":
    main()
