"""The protocol of the adapters: a command and its arguments (JSON) on the command line, a line of JSON as the answer.

| command | does | answers |
| --- | --- | --- |
| `facts` | says what the harness has to know | `Facts` |
| `setup` | brings an empty database to the peer's schema | `{}` |
| `enqueue` | enqueues `count` tasks in calls of `chunk` (0: one by one, each committed) | `{"seconds": …}` |
| `pace` | enqueues `burst` tasks every `interval` seconds and notes when each was committed | `{"seconds": …}` |
| `work` | says `{"ready": true}`, waits for a line on standard input, then runs tasks until it is killed | |

Times are of the machine's monotonic clock, which all processes share. Standard library only.
"""

import asyncio
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

TASKS = ("noop", "write", "mark")
INSERT_EFFECT = "INSERT INTO bench.effects (n) VALUES ({})"
RECORD = struct.Struct("<Qd")


@dataclass(frozen=True)
class Config:
    """Where the servers are, which variant of the peer is wanted, and the folder of the measurement's marks."""

    database: str
    redis: str
    variant: str
    folder: str


@dataclass(frozen=True)
class Facts:
    """What the harness has to know of a peer.

    `sql` is a query whose one value is true while a task is not visible as done; a peer on Redis names by `redis` the
    commands whose answers add up to the count of such tasks instead. `judged` says so to people. `effect` says in which
    transaction a task's row is written; `settings` how the peer is set up.
    """

    settings: str
    judged: str
    effect: str
    versions: dict[str, str]
    sql: str | None = None
    redis: list[list[str]] = field(default_factory=list)


class Producer(Protocol):
    """Enqueues; what a call enqueued is committed when it returns. `is_atomic`: `many` is one commit."""

    is_atomic: bool

    async def one(self, task: str, number: int) -> None:
        """Enqueue one task of that name."""

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue many tasks of that name, by the peer's own way for many if it has one."""


class Adapter(Protocol):
    """A peer, in one variant."""

    def facts(self) -> Facts:
        """Say what the harness has to know."""

    def setup(self) -> None:
        """Bring the empty database to the peer's schema."""

    def producer(self) -> AbstractAsyncContextManager[Producer]:
        """Open what enqueues."""

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Make everything ready, pass the `gate`, then run tasks for ever; `kind` is the process's part in the leg."""


class Marks:
    """Files of a measurement's folder to which processes append (number, time); short appends do not interleave."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._files: dict[str, int] = {}
        self._has_begun = False

    def began(self) -> None:
        """Note the first call of this process: some handler runs."""
        if not self._has_begun:
            self._has_begun = True
            self.add("begun", [0])

    def started(self, number: int) -> None:
        """Note that the handler of task `number` starts now."""
        self.add("started", [number])

    def add(self, name: str, numbers: Sequence[int]) -> None:
        """Append (number, now) for each number."""
        now = time.monotonic()
        if name not in self._files:
            self._files[name] = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._files[name], b"".join(RECORD.pack(number, now) for number in numbers))


def main(make: Callable[[Config, Marks], Adapter], run: Callable[[Any], dict[str, float]] = asyncio.run) -> None:
    """Do what the command line says; `run` runs a coroutine in the event loop that the peer recommends."""
    command, arguments = sys.argv[1], json.loads(sys.argv[2])
    config = Config(**arguments.pop("config"))
    marks = Marks(config.folder)
    adapter = make(config, marks)
    match command:
        case "facts":
            answer(asdict(adapter.facts()))
        case "setup":
            adapter.setup()
            answer({})
        case "enqueue":
            answer(run(_enqueue(adapter, **arguments)))
        case "pace":
            answer(run(_pace(adapter, marks, **arguments)))
        case "work":
            adapter.work(arguments["kind"], _gate_on(_standard_output_for_answers()))
        case _:
            raise SystemExit(f"unknown command {command}")


def answer(value: dict[str, Any]) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _standard_output_for_answers() -> int:
    """Give what a peer prints to standard error, which is a file: a pipe that nobody reads would stop it once full."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _gate_on(answers: int) -> Callable[[], None]:
    def gate() -> None:
        os.write(answers, b'{"ready": true}\n')
        sys.stdin.readline()

    return gate


async def _enqueue(adapter: Adapter, task: str, count: int, chunk: int, warm: int = 0) -> dict[str, float]:
    async with adapter.producer() as producer:
        for number in range(warm):
            await producer.one(task, number)
        begun = time.perf_counter()
        if chunk:
            for start in range(0, count, chunk):
                await producer.many(task, range(start, min(start + chunk, count)))
        else:
            for number in range(count):
                await producer.one(task, number)
        return {"seconds": time.perf_counter() - begun}


async def _pace(
    adapter: Adapter, marks: Marks, count: int, burst: int, interval: float, first: int = 0
) -> dict[str, float]:
    """Keep to a timetable with jitter, so that no poller's period is met again and again."""
    async with adapter.producer() as producer:
        begun = due = time.monotonic()
        for start in range(first, first + count, burst):
            due += interval * random.uniform(0.5, 1.5)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            numbers = range(start, min(start + burst, first + count))
            if burst > 1 and producer.is_atomic:
                await producer.many("mark", numbers)
                marks.add("committed", numbers)
                continue
            for number in numbers:
                await producer.one("mark", number)
                marks.add("committed", [number])
        return {"seconds": time.monotonic() - begun}
