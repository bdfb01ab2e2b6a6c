"""The parent of processes that work: starts them, replaces those that end, drains them all at the end.

It holds children and nothing else: no broker, no handler, no connection. So it stays small, and nothing that a handler
does to its process reaches it. A child that ends is replaced: at once after a planned recycling, else after a back-off.
One that refuses to start (a wrong setting, a task module that cannot be imported) would refuse again, and ends all.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from console.lifeline import LEAVING, READY, RECYCLED, REFUSED
from core import events
from core.backoff import Backoff
from core.errors import raised_at

_ROOT = Path(__file__).resolve().parent.parent
# A child that lives for this long and ends has not failed at its start.
_SETTLED_SECONDS = 30.0
# What a child may take beyond its grace time to end in order.
_MARGIN_SECONDS = 15.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Role:
    """What a child does: its kind (see console/child.py), and what its environment has beyond ours.

    `is_alone` says that its successor cannot start before it has ended.
    """

    kind: str
    environment: Mapping[str, str] = field(default_factory=dict)
    is_alone: bool = False


class Child:
    """One process and our end of its lifeline."""

    def __init__(self, role: Role) -> None:
        self.started = time.monotonic()
        self._line, theirs = socket.socketpair()
        with theirs, ExitStack() as undo:
            undo.callback(self._line.close)
            # `-P`: a folder that happens to be the working directory must not shadow our packages.
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "console.child", role.kind],
                stdin=theirs.fileno(),
                env=os.environ | {"PYTHONPATH": _python_path()} | dict(role.environment),
            )
            undo.pop_all()
        self.pid = self._process.pid

    def words(self) -> Sequence[bytes]:
        """Return what it says next, a word a line; nothing when it has ended."""
        with suppress(OSError):
            return self._line.recv(256).splitlines(keepends=True)
        return ()

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status (negative: the signal that ended it); raises subprocess.TimeoutExpired."""
        status = self._process.wait(timeout)
        self._line.close()
        return status

    def end_with(self, stopping: threading.Event) -> int:
        """Wait for its end, and ask for it when the end of all is wanted; return its exit status."""
        while not stopping.is_set():
            with suppress(subprocess.TimeoutExpired):
                return self.wait(_LOOK_SECONDS)
        self.send(signal.SIGTERM)
        return self.wait()

    def send(self, number: int) -> None:
        """Send a signal; one that has ended gets none."""
        self._process.send_signal(number)


class Place:
    """One child at a time, and those that are leaving; a thread of the parent's attends to it."""

    def __init__(self, role: Role, supervisor: "Supervisor") -> None:
        self._role = role
        self._supervisor = supervisor
        self._backoff = Backoff(base=0.5, maximum=30.0)
        self._failures = 0
        self.is_ready = threading.Event()

    def run(self) -> None:
        """Keep the place taken until the supervisor stops."""
        stopping = self._supervisor.stopping
        while not stopping.is_set():
            try:
                child = self._supervisor.add(self._role)
            except OSError as error:  # no memory, no file or no process left: that passes, and we are not replaced
                stopping.wait(self._refused(error))
                continue
            if child is not None:
                stopping.wait(self._attend(child))

    def _refused(self, error: OSError) -> float:
        """Say that no child could be started; return the pause before the next try, in seconds."""
        self._failures += 1
        pause = self._backoff.delay(self._failures)
        kind, where = type(error).__name__, raised_at(error)
        events.emit(events.LoopFailed(f"the place of a {self._role.kind}", kind, str(error), pause, where))
        return pause

    def _attend(self, child: Child) -> float:
        """Follow a child until it ends or leaves; return the pause before its successor, in seconds."""
        while words := child.words():
            if READY in words:
                self.is_ready.set()
            if LEAVING in words and not self._role.is_alone:
                threading.Thread(target=self._supervisor.bury, args=(child,), daemon=True).start()
                return self._pause(child, is_planned=True)
        status = self._supervisor.bury(child)
        if self._supervisor.stopping.is_set():
            return 0.0
        if status == REFUSED:
            self._supervisor.refuse()
            return 0.0
        pause = self._pause(child, is_planned=status == RECYCLED)
        if status != RECYCLED:
            events.emit(events.ChildEnded(self._role.kind, child.pid, status, pause))
        return pause

    def _pause(self, child: Child, *, is_planned: bool) -> float:
        """One that leaves as soon as it has come, by whatever plan, would come and go for ever."""
        is_settled = time.monotonic() - child.started > _SETTLED_SECONDS
        if is_settled:
            self._failures = 0
            if is_planned:
                return 0.0
        self._failures += 1
        # the first of a kind costs no time: a child may be recycled soon after its start, once
        return 0.0 if is_planned and self._failures == 1 else self._backoff.delay(self._failures)


class Supervisor:
    """Keeps a process for each role until `stop`. `stopping` is set by whoever wants the end, or by a refusal."""

    def __init__(self, roles: Sequence[Role], stopping: threading.Event, *, grace_seconds: float) -> None:
        self.stopping = stopping
        self.is_refused = False
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._children: list[Child] = []
        self._places = [Place(role, self) for role in roles]
        self._threads = [threading.Thread(target=place.run, daemon=True) for place in self._places]

    def start(self) -> None:
        """Start all children."""
        for thread in self._threads:
            thread.start()

    def await_ready(self) -> bool:
        """Return when all children are ready for work, or False when the end comes first."""
        while not self.stopping.is_set():
            if all(place.is_ready.wait(0.1) for place in self._places):
                return True
        return False

    def stop(self) -> None:
        """Let all children drain and wait for their end; one that overstays is killed, and loses nothing by it."""
        self.stopping.set()
        for child in self._listed():
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds + _MARGIN_SECONDS
        for child in self._listed():
            try:
                child.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                child.send(signal.SIGKILL)
                child.wait()

    def add(self, role: Role) -> Child | None:
        """Start a child, unless the end has come."""
        with self._lock:
            if self.stopping.is_set():
                return None
            child = Child(role)
            self._children.append(child)
            return child

    def bury(self, child: Child) -> int:
        """Wait for a child's end and forget it; return its exit status."""
        status = child.wait()
        with self._lock:
            self._children.remove(child)
        return status

    def refuse(self) -> None:
        """End everything, because a child cannot work as things are; it has said why."""
        self.is_refused = True
        self.stopping.set()

    def _listed(self) -> list[Child]:
        with self._lock:
            return list(self._children)


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_ROOT), *([inherited] if inherited else [])])
