"""An adapter's processes, and what they answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.adapters.common import RECORD, Config
from tests.benchmarks.peers.legs import Leg

ROOT = Path(__file__).resolve().parents[3]
_COMMAND_SECONDS = 120
_LINES_SHOWN = 15


class LegError(Exception):
    """A peer failed; the message is what it said last."""


@dataclass
class Bench:
    """A leg with a database, a Redis and a folder of marks: one measurement's worth."""

    leg: Leg
    peers_python: Path
    database: str
    redis: str
    folder: Path

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Run a command of the adapter to its end; return its answer."""
        try:
            done = subprocess.run(
                self._command(command, arguments),
                cwd=ROOT,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LegError(f"{command} took longer than {_COMMAND_SECONDS} s") from error
        if done.returncode != 0:
            raise LegError(f"{command} ended with {done.returncode}: {_last_lines(done.stderr)}")
        try:
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise LegError(f"{command} gave no answer: {_last_lines(done.stdout + done.stderr)}") from error
        return answer

    @contextmanager
    def working(self) -> Iterator[Callable[[], None]]:
        """Run the leg's processes for the block; they begin together, once the last one is ready.

        Yields what raises LegError if one of them has ended.
        """
        processes: list[subprocess.Popen[str]] = []
        log = self.folder / "log"
        try:
            with log.open("a") as errors:
                processes += [self._start(kind, errors) for kind in self.leg.processes]
            for process in processes:
                _await_ready(process, log)
            for process in processes:
                _let_go(process, log)

            def check() -> None:
                if ended := [process.returncode for process in processes if process.poll() is not None]:
                    raise LegError(f"a worker ended with {ended[0]}: {_last_lines(log.read_text())}")

            yield check
            check()
        finally:
            for process in processes:
                _kill(process)

    def log(self) -> str:
        """Return what the processes said last."""
        return _last_lines((self.folder / "log").read_text())

    def marks(self, name: str) -> dict[int, float]:
        """Return the first time that was noted for each number."""
        path = self.folder / name
        found: dict[int, float] = {}
        for number, at in RECORD.iter_unpack(path.read_bytes()) if path.exists() else ():
            found[number] = min(at, found.get(number, at))
        return found

    def _start(self, kind: str, errors: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command("work", {"kind": kind}),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # its children end with it
        )

    def _command(self, command: str, arguments: dict[str, Any]) -> list[str]:
        config = Config(self.database, self.redis, self.leg.variant, str(self.folder))
        python = sys.executable if self.leg.is_ours else str(self.peers_python)
        module = f"tests.benchmarks.peers.adapters.{self.leg.peer}"
        return [python, "-m", module, command, json.dumps({"config": vars(config), **arguments})]


@contextmanager
def bench(leg: Leg, peers_python: Path, database: str, redis: str) -> Iterator[Bench]:
    """A measurement's processes over these servers, with a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="greenroom-peers-marks-") as folder:
        yield Bench(leg, peers_python, database, redis, Path(folder))


def _environment() -> dict[str, str]:
    """Return the environment without what would configure Greenroom or another Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "PYTHON", "PG"))}


def _await_ready(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            if json.loads(line) == {"ready": True}:
                return
    raise LegError(f"a worker did not start: {_last_lines(log.read_text())}")


def _let_go(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write("go\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise LegError(f"a worker ended before it began: {_last_lines(log.read_text())}") from None


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LINES_SHOWN:]) or "it said nothing"
