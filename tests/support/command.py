"""The real command, as a process of its own with an environment of its own."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from console import main, runtime

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Greenroom:
    """Runs `greenroom` with one home; `settings` are more of its environment."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: str = "", timeout: float = 110) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self._command(arguments),
            cwd=self._folder(),
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that has to succeed; return what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that has to succeed with --json; return its answer."""
        return json.loads(self.ok(*arguments, "--json"))

    @contextmanager
    def running(self, *arguments: str) -> Iterator["Running"]:
        """Run a command beside the block; it is killed at the end if it has not ended by then."""
        with (
            (self._folder() / f"{arguments[0]}.log").open("w+") as log,
            subprocess.Popen(
                self._command(arguments),
                cwd=self._folder(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                yield Running(process, log)
            finally:
                if process.poll() is None:
                    process.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "console", *arguments]

    def _folder(self) -> Path:
        # Not the project: a developer's .env is not the suite's.
        self.home.mkdir(parents=True, exist_ok=True)
        return self.home

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "PG"))}
        return kept | {"PYTHONPATH": str(PROJECT), "GREENROOM_HOME": str(self.home)} | self.settings


class Inline(Greenroom):
    """The same command in this process: a hundred calls need no hundred interpreters."""

    def run(self, *arguments: str, stdin: str = "", timeout: float = 110) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        out, err = io.StringIO(), io.StringIO()
        before = dict(os.environ), sys.stdin, Path.cwd(), {n: signal.getsignal(n) for n in _SIGNALS}
        os.environ |= {"GREENROOM_HOME": str(self.home)} | self.settings
        os.chdir(self._folder())
        sys.stdin = io.StringIO(stdin)
        runtime.settings.cache_clear()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main.run(arguments)
        finally:
            environment, sys.stdin, folder, handlers = before
            os.chdir(folder)
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            for number, handler in handlers.items():
                signal.signal(number, handler)
            runtime.settings.cache_clear()
        return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Running:
    """A command that runs until it is told to stop."""

    process: "subprocess.Popen[str] | subprocess.Popen[bytes]"
    log: IO[str]

    def said(self) -> str:
        """Return all that it has printed so far."""
        return os.pread(self.log.fileno(), 1_000_000, 0).decode(errors="replace")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)
