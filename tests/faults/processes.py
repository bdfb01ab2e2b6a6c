"""Real processes of Greenroom: started, frozen, killed and replaced, each by its process id."""

import contextlib
import os
import signal
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.forkserver import PROJECT, Fork, fork_server
from tests.support.waiting import eventually

__all__ = ["PROJECT", "Member", "Role", "of_sessions"]
_LOOPS = 4


@dataclass(frozen=True)
class Role:
    """What a process is: what follows `python -m`, the settings that it gets, and whether it embeds."""

    name: str
    arguments: tuple[str, ...]
    settings: dict[str, str]
    embeds: bool = False


class Member:
    """One place in the fleet, taken by a process of its role and by the next one after that has ended.

    Each leads a session of its own, which `sessions` takes note of: by that its children are known when it is gone.
    """

    def __init__(self, role: Role, folder: Path, sessions: set[int]) -> None:
        self.role = role
        self.log = folder / f"{role.name}.log"
        self._sessions = sessions
        self._process: Fork | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        return self._started().pid

    def start(self) -> None:
        """Start a process, in a session of its own; the one before must have ended."""
        assert self._process is None or self.status() is not None, f"{self.role.name} runs"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        module, *arguments = self.role.arguments
        self.log.touch()
        server = fork_server(has_model=self.role.embeds)
        self._process = server.start(module, tuple(arguments), environment | self.role.settings, self.log)
        self._sessions.add(self._process.pid)

    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def is_up(self) -> bool:
        """Whether it runs and has started its loops, each a thread; a relay that is saturated says so nowhere else."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.status() is None and psutil.Process(self.pid).num_threads() >= _LOOPS
        return False

    def freeze(self) -> None:
        """Stop it as a debugger or a suspended machine would; returns once it does nothing any more."""
        os.kill(self.pid, signal.SIGSTOP)
        process = psutil.Process(self.pid)
        eventually(lambda: process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}, pause=0.001)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self, *, with_children: bool = False) -> None:
        """Kill it without a word; `with_children`, its heartbeat and parser too, as when their machine goes down."""
        process = self._started()
        children = psutil.Process(process.pid).children(recursive=True) if with_children else []
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.send(signal.SIGKILL)
        process.wait()

    def terminate(self, seconds: float = 30.0) -> int:
        """Ask for an orderly end and return the exit status."""
        self._started().send(signal.SIGTERM)
        return self._started().wait(seconds)

    def end(self) -> None:
        """Make sure that nothing runs any more, whatever a test left behind."""
        if self._process is not None and self.status() is None:
            self.kill(with_children=True)

    def _started(self) -> Fork:
        assert self._process is not None, f"{self.role.name} was never started"
        return self._process

    def last_lines(self, count: int = 15) -> str:
        """What it said last."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-count:])


def of_sessions(sessions: Container[int]) -> list[psutil.Process]:
    """The processes of these sessions: members, and what they have started or forked."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]
