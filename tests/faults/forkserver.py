"""Starts processes without the second that imports take: each is a fork of an interpreter that has done them.

Run as `python -m tests.faults.forkserver [model]` with a socket as standard input. Each line is an order, answered by
a line: `{"module", "arguments", "environment", "log"}` by the new process's id, `{"pid"}` by its exit status, or null
while it runs. When the socket ends, so does everything that was started here.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually
from workers import running

PROJECT = Path(__file__).parents[2]
# What the processes of the suite import, but for the module that each runs itself.
_IMPORTED = ("console.engine", "console.lifeline", "pipelines.publish", "workers.processes", "tests.faults.tasks")


class ForkServer:
    """The suite's side; `has_model` says that what embeds is imported too, which takes ten seconds."""

    def __init__(self, *, has_model: bool) -> None:
        self._line, theirs = socket.socketpair()
        arguments = ["-m", "tests.faults.forkserver", *(["model"] if has_model else [])]
        with theirs:
            self._process = subprocess.Popen([sys.executable, *arguments], cwd=PROJECT, stdin=theirs.fileno())
        self._answers = self._line.makefile("r")

    def start(self, module: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> "Fork":
        """Run `python -m module arguments` in a session of its own; what it says is added to `log`."""
        order = {"module": module, "arguments": arguments, "environment": environment, "log": str(log)}
        return Fork(self, self.ask(order))

    def close(self) -> None:
        """End it, and whatever it has started and runs on."""
        self._answers.close()
        self._line.close()
        self._process.wait()

    def ask(self, order: dict[str, Any]) -> Any:
        """Give an order and return the answer."""
        self._line.sendall(json.dumps(order).encode() + b"\n")
        answer = self._answers.readline()
        assert answer, "the fork server has ended"
        return json.loads(answer)


class Fork:
    """A process that was started; its id is nobody else's until its end was asked for."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        if self._status is None:
            self._status = self._server.ask({"pid": self.pid})
        return self._status

    def wait(self, seconds: float = 10.0) -> int:
        """Wait for its end and return the exit status."""
        eventually(lambda: self.poll() is not None, seconds, pause=0.005)
        assert self._status is not None
        return self._status

    def send(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self._status is None:
            os.kill(self.pid, number)


_servers: dict[bool, ForkServer] = {}


def fork_server(*, has_model: bool = False) -> ForkServer:
    """Return this test run's fork server of a kind."""
    if has_model not in _servers:
        _servers[has_model] = ForkServer(has_model=has_model)
    return _servers[has_model]


def close_servers() -> None:
    """End those that were started."""
    while _servers:
        _servers.popitem()[1].close()


def main() -> None:
    """Obey until the line ends; in a fork, be what was ordered."""
    line = socket.socket(fileno=os.dup(0))
    for name in _IMPORTED:
        importlib.import_module(name)
    if sys.argv[1:] == ["model"]:
        importlib.import_module("pipelines.documents.embedding").prepare_environment()
        importlib.import_module("sentence_transformers")
    order = _serve(line)
    line.close()
    if order is None:
        os._exit(0)  # it has nothing to put in order, and much to take apart
    _become(order)


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Answer orders; return the order that this process is to carry out if it is a fork, else None at the end."""
    started: set[int] = set()
    with line.makefile("r") as orders:
        for text in orders:
            order = json.loads(text)
            if "pid" in order:
                answer = _status_of(order["pid"], started)
            elif (answer := os.fork()) == 0:
                return dict(order)
            else:
                started.add(answer)
            line.sendall(json.dumps(answer).encode() + b"\n")
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _status_of(pid: int, started: set[int]) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    started.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _become(order: dict[str, Any]) -> None:
    os.setsid()
    with Path(os.devnull).open() as nothing, Path(order["log"]).open("ab") as log:
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream.fileno(), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    running._is_child = False  # of no handler
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
