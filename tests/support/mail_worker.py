"""A worker that sends mail, a process of its own: `python -m tests.support.mail_worker`, configured by JSON on stdin.

Says `ready`, then sends what is due until it is killed. `sending` runs one.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from db import queue
from tests.support.command import PROJECT
from tests.support.database import Database
from tests.support.post import AGAIN, LAPSE, REGISTRY, Post, sending_resources
from workers.testing.line import Line

UNCLAIM = "UPDATE queue.tasks_live SET claimed_until = now() - interval '1 s' WHERE claimed_until IS NOT NULL"


class _Server:
    """The server that the parent runs, by its addresses."""

    def __init__(self, owner_url: str) -> None:
        self._owner_url = owner_url

    def url(self, user: str | None = None, database: str | None = None) -> str:
        """The owner's address of the one database."""
        return self._owner_url


@contextmanager
def sending(post: Post) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that sends; it is killed at the end at the latest."""
    config = {"owner_url": post.database.owner_url, "folder": str(post.folder)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.mail_worker"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(config)}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def rescue(post: Post) -> None:
    """Let the leases and claims of whoever is gone run out, and give back what they held."""
    relay = post.database.connect("relay")
    post.database.rows(LAPSE)
    queue.rescue(relay, 1000)
    post.database.rows(UNCLAIM)
    queue.reclaim(relay, 1000)
    post.database.rows(AGAIN)


def main() -> None:
    """Run until killed."""
    config = json.loads(sys.stdin.readline())
    database = Database(cast("Any", _Server(config["owner_url"])), "given")
    line = Line(database, REGISTRY, resources=sending_resources(Path(config["folder"]), seconds=30.0, data=30.0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        claims = line.claim(limit=20)
        line.run(claims)
        if not claims:
            threading.Event().wait(0.01)


if __name__ == "__main__":
    main()
