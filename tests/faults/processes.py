"""Real processes of Greenroom: started, frozen, killed and replaced, each by its process id."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.waiting import eventually

PROJECT = Path(__file__).parents[2]
_LOOPS = 4


@dataclass(frozen=True)
class Role:
    """What a process is: what follows `python -m`, and the settings that it gets."""

    name: str
    arguments: tuple[str, ...]
    settings: dict[str, str]


class Member:
    """One place in the fleet, taken by a process of its role and by the next one after that has ended."""

    def __init__(self, role: Role, folder: Path) -> None:
        self.role = role
        self.log = folder / f"{role.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process that was started last."""
        assert self._process is not None, f"{self.role.name} was never started"
        return self._process.pid

    def start(self) -> None:
        """Start a process; the one before must have ended."""
        assert self._process is None or self._process.poll() is not None, f"{self.role.name} runs"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.role.arguments],
                cwd=PROJECT,
                env=environment | self.role.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

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
        assert self._process is not None
        children = psutil.Process(self.pid).children(recursive=True) if with_children else []
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()

    def terminate(self, seconds: float = 30.0) -> int:
        """Ask for an orderly end and return the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(seconds)

    def end(self) -> None:
        """Make sure that nothing runs any more, whatever a test left behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill(with_children=True)

    def last_lines(self, count: int = 15) -> str:
        """What it said last."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-count:])


def belonging_to(home: Path) -> list[psutil.Process]:
    """The processes that were started with this home among their settings."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return process.environ().get("GREENROOM_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if belongs(process)]
