"""A worker that sends mail, as a process of its own: `python -m tests.support.mail_worker`, configured by JSON on stdin.

Says `ready`, then sends what is due until it is killed.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any, cast

from tests.support.database import Database
from tests.support.post import REGISTRY, sending_resources
from workers.testing.line import Line


class _Server:
    """The server that the parent runs, by its addresses."""

    def __init__(self, owner_url: str) -> None:
        self._owner_url = owner_url

    def url(self, user: str | None = None, database: str | None = None) -> str:
        """The owner's address of the one database."""
        return self._owner_url


def main() -> None:
    """Run until killed."""
    config = json.loads(sys.stdin.readline())
    database = Database(cast("Any", _Server(config["owner_url"])), "given")
    line = Line(database, REGISTRY, resources=sending_resources(Path(config["folder"]), seconds=30.0, data=30.0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        if line.run_once() == 0:
            threading.Event().wait(0.01)


if __name__ == "__main__":
    main()
