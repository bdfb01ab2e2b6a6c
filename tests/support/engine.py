"""The engine in the test's own process: whole (threads, broker, loops) or step by step without any thread."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from core.settings import Settings, load_settings
from db import queue
from db.connection import Connection
from pipelines.publish import publish_types
from pipelines.registry import Registry
from pipelines.resources import Resources
from tests.support.database import Database
from workers.broker import AnyBroker, messages_of
from workers.claiming import Claimer
from workers.executor import Executor, ExecutorConfig
from workers.processes import Addresses, RelayProcess, WorkerProcess

_RELAY = {"poll_seconds": 0.5, "poll_seconds_deaf": 0.05, "rescue_seconds": 0.1}
_WORKER = {"threads": 2, "grace_seconds": 5.0}


def fast_settings(
    *, relay: dict[str, Any] | None = None, worker: dict[str, Any] | None = None, **others: Any
) -> Settings:
    """Settings with short pauses, read from no file."""
    return load_settings(_env_file=None, relay=_RELAY | (relay or {}), worker=_WORKER | (worker or {}), **others)


def publish(database: Database, registry: Registry) -> None:
    """Publish task types as a worker does."""
    publish_types(database.connect("worker"), registry)


class Engine:
    """A relay and a worker over one broker; `relay` and `worker` are the processes' own objects."""

    def __init__(
        self, database: Database, registry: Registry, broker: AnyBroker, settings: Settings, *, heartbeat: bool
    ) -> None:
        addresses = Addresses(database.url("worker"), system_url=database.url("system"))
        self.relay = RelayProcess(settings, Addresses(database.url("relay")), broker)
        self.worker = WorkerProcess(settings, addresses, broker, registry, Resources())
        if not heartbeat:  # it is a process, and few tests run for longer than a lease
            self.worker.loops = [loop for loop in self.worker.loops if loop.service.name != "heartbeat"]

    def start(self) -> None:
        """Start both, the worker first, so that nothing waits for it."""
        self.worker.start()
        self.relay.start()

    def stop(self) -> bool:
        """Stop both; return whether the worker had drained."""
        drained = self.worker.stop()
        self.relay.stop()
        return drained


@contextmanager
def engine(
    database: Database,
    registry: Registry,
    broker: AnyBroker,
    *,
    settings: Settings | None = None,
    heartbeat: bool = False,
) -> Iterator[Engine]:
    """Run relay and worker for the block."""
    publish(database, registry)
    running = Engine(database, registry, broker, settings or fast_settings(), heartbeat=heartbeat)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def claim_from(
    relay: Connection, wanted: queue.Capacity, *, limit: int = 1000, claim_seconds: float = 30.0
) -> list[queue.Claim]:
    """Claim from one queue as a relay does that looks at it for the first time."""
    return Claimer(limit=limit, claim_seconds=claim_seconds).claim(relay, wanted)[0]


class Line:
    """The engine by hand, in the caller's thread: `claim`, `run`, or both as `run_once`. One worker, no broker."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        *,
        lease_seconds: float = 30.0,
        slots: int = 1000,
        resources: Resources | None = None,
    ) -> None:
        self.database = database
        self.registry = registry
        self.relay = database.connect("relay")
        self.worker = database.connect("worker")
        self.process = queue.ProcessRow(
            uuid4(), "worker", "test", 1, sorted({"default", *registry.queues()}), registry.versions(), slots
        )
        publish(database, registry)
        queue.beat(self.worker, self.process)
        sizes = {name: registry.get(name).batch_size or 1 for name in self.process.task_types}
        queue.offer(self.worker, self.process.id, sizes)
        config = ExecutorConfig(
            self.process.id, database.url("worker"), database.url("system"), False, lease_seconds, 60.0
        )
        self.executor = Executor(config, resources or Resources())

    def claim(self, limit: int = 1000, claim_seconds: float = 30.0) -> list[queue.Claim]:
        """Promote what is due and claim what fits."""
        queue.promote(self.relay, limit)
        wanted = queue.capacity(self.relay, depth=1.0, process_timeout=3600.0)
        found = [c for w in wanted for c in claim_from(self.relay, w, limit=limit, claim_seconds=claim_seconds)]
        return found[:limit]

    def run(self, claims: Sequence[queue.Claim]) -> int:
        """Run claimed tasks as the messages that a relay would have made of them; return how many messages."""
        messages = messages_of(claims)
        for _, part in messages:
            task = self.registry.get(part[0].task_type)
            self.executor.run_message(task, [(c.task_id, c.claim_number) for c in part])
        return len(messages)

    def run_once(self) -> int:
        """Claim and run; return how many tasks were claimed."""
        claims = self.claim()
        self.run(claims)
        return len(claims)

    def take(
        self, claims: Sequence[queue.Claim], *, lease_seconds: float = 30.0, time_limit: float = 600.0
    ) -> list[queue.Attempt]:
        """Take attempts as this worker and do nothing with them."""
        pairs = [(c.task_id, c.claim_number) for c in claims]
        return queue.take(
            self.worker, pairs, worker_id=self.process.id, lease_seconds=lease_seconds, time_limit=time_limit
        )

    def task(self, task_id: UUID) -> dict[str, Any]:
        """Return a task's row, whatever its status, by column."""
        cursor = self.database.connect().execute("SELECT * FROM queue.outbox_tasks WHERE id = %s", (task_id,))
        assert cursor.description is not None
        [row] = cursor.fetchall()
        return dict(zip((column.name for column in cursor.description), row, strict=True))

    def attempts(self, task_id: UUID) -> list[tuple[Any, ...]]:
        """Return what is kept of a task's attempts: (number, outcome, error, traceback)."""
        query = (
            "SELECT number, outcome, error, traceback FROM queue.attempts WHERE task_id = %s ORDER BY ended_at, number"
        )
        return self.database.rows(query, (task_id,))

    def close(self) -> None:
        """Close the executor's connections."""
        self.executor.close()
