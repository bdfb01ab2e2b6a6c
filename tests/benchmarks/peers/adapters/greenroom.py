"""Greenroom itself, with the settings it ships with. Runs in our own environment.

`engines`: two processes, each a relay and a worker over the in-process broker. `redis`: one relay and two workers that
meet over Redis. No setting is made, and the task types say nothing of how many may travel together.
"""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from core.settings import Settings, load_settings
from db.connection import Connection, connect
from db.migrate import migrate
from db.roles import role_url
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.publish import publish_types
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from tests.benchmarks.peers.adapters.common import INSERT_EFFECT, Config, Facts, Marks, main
from workers.processes import Addresses, RelayProcess, WorkerProcess, broker_of

_GRANT = "GRANT USAGE ON SCHEMA bench TO greenroom_worker; GRANT INSERT ON bench.effects TO greenroom_worker"
_INSERT = INSERT_EFFECT.format("%s")


class Noop(Payload):
    """Does nothing."""

    task_type = "bench.noop"
    n: int


class Write(Payload):
    """Writes one row, in the transaction that completes the task."""

    task_type = "bench.write"
    n: int


class Mark(Payload):
    """Notes when it started."""

    task_type = "bench.mark"
    n: int


_PAYLOADS: dict[str, type[Noop | Write | Mark]] = {"noop": Noop, "write": Write, "mark": Mark}


class Greenroom:
    """The engine through its public seams."""

    def __init__(self, config: Config, marks: Marks) -> None:
        self._config = config
        self._marks = marks

    def facts(self) -> Facts:
        """Say what the harness has to know."""
        shape = "one relay, two workers over Redis" if self._config.variant == "redis" else "two engines in process"
        return Facts(
            settings=f"shipped settings, {shape}",
            judged="no live task is left (a finished one is deleted into history)",
            effect="with the completion",
            versions={"greenroom": version("greenroom")},
            sql="SELECT EXISTS (SELECT FROM queue.tasks_live)",
        )

    def setup(self) -> None:
        """Migrate and publish the task types."""
        migrate(self._config.database)
        with self._connect() as connection:
            publish_types(connection, self._registry())
            connection.execute(_GRANT)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["GreenroomProducer"]:
        """Open one connection."""
        with self._connect() as connection:
            yield GreenroomProducer(connection)

    def work(self, kind: str, gate: Callable[[], None]) -> None:
        """Run the part of the topology that `kind` names: an engine, a relay or a worker."""
        settings = self._settings()
        broker = broker_of(settings)
        url = self._config.database
        processes: list[RelayProcess | WorkerProcess] = []
        if kind in ("relay", "engine"):
            processes.append(RelayProcess(settings, Addresses(role_url(url, "relay")), broker))
        if kind in ("worker", "engine"):
            addresses = Addresses(role_url(url, "worker"))
            processes.append(WorkerProcess(settings, addresses, broker, self._registry(), Resources()))
        gate()
        for process in reversed(processes):
            process.start()
        threading.Event().wait()

    def _settings(self) -> Settings:
        broker: dict[str, Any] = {"url": self._config.redis} if self._config.variant == "redis" else {}
        return load_settings(_env_file=None, broker=broker)

    def _connect(self) -> Connection:
        return connect(self._config.database, name="bench")

    def _registry(self) -> Registry:
        marks = self._marks

        def noop(context: TaskContext, payload: Noop) -> Outcome:
            marks.began()
            return Done()

        def write(context: TaskContext, payload: Write) -> Outcome:
            marks.began()

            def apply(transaction: Transaction) -> None:
                transaction.execute(_INSERT, (payload.n,))

            return Done(apply=apply)

        def mark(context: TaskContext, payload: Mark) -> Outcome:
            marks.started(payload.n)
            return Done()

        return Registry([Task(payload=Noop, run=noop), Task(payload=Write, run=write), Task(payload=Mark, run=mark)])


class GreenroomProducer:
    """Enqueues; autocommit, so that each call is a transaction."""

    is_atomic = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def one(self, task: str, number: int) -> None:
        """Enqueue one."""
        enqueue(self._connection, _PAYLOADS[task](n=number))

    async def many(self, task: str, numbers: Sequence[int]) -> None:
        """Enqueue many in one statement."""
        payload = _PAYLOADS[task]
        enqueue_many(self._connection, [payload(n=number) for number in numbers])


if __name__ == "__main__":
    main(Greenroom)
