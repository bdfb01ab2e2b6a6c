"""The producer, a process of its own: it enqueues no-op tasks at the rate that it is told.

`python -m tests.benchmarks.retention.producing URL` reads a rate (tasks a second) a line and answers each line by how
many it has enqueued so far. A negative rate is as fast as the engine ends them: so many wait at most.
"""

import json
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from db.connection import Connection, connect
from pipelines.enqueue import enqueue_many
from tests.benchmarks.retention.tasks import Noop

_TICK = 0.01
_CHUNK = 1000
_LIVE = "SELECT count(*) FROM queue.tasks_live"


class Producer:
    """The harness's side."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.retention.producing", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def pace(self, rate: int) -> int:
        """Have it enqueue so many a second, 0: none, or below that keep so many waiting; return how many there were."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{rate}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the producer has ended"
        return int(json.loads(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


class _Pace:
    """What is enqueued at one rate, from when it was told."""

    def __init__(self, rate: int) -> None:
        self._rate, self._begun, self._enqueued = rate, time.monotonic(), 0

    def due(self, connection: Connection) -> int:
        """Return how many are to be enqueued now, which the caller does."""
        if self._rate >= 0:
            count = int((time.monotonic() - self._begun) * self._rate) - self._enqueued
        else:
            [(live,)] = connection.execute(_LIVE).fetchall()
            count = max(0, -self._rate - live)
        count = min(count, _CHUNK)
        self._enqueued += count
        return count


def main() -> None:
    """Obey until the input ends."""
    pace, total = _Pace(0), 0
    with connect(sys.argv[1], name="producer") as connection:
        while True:
            if select.select([sys.stdin], [], [], _TICK)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                pace = _Pace(int(line))
                sys.stdout.write(f"{total}\n")
                sys.stdout.flush()
            count = pace.due(connection)
            total += len(enqueue_many(connection, [Noop(n=total + n) for n in range(count)]))


if __name__ == "__main__":
    main()
