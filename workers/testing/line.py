"""The engine by hand, in the caller's thread: no broker, no relay, no other process, the real executor."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from db import leases, processes, queue
from db.connection import Connection
from pipelines.keyring import KeyRing
from pipelines.publish import publish_types
from pipelines.registry import Registry
from pipelines.resources import Resources
from workers.broker import messages_of
from workers.claiming import Claimer
from workers.executor import Executor, ExecutorConfig
from workers.testing.database import Database


def publish(database: Database, registry: Registry) -> None:
    """Publish task types as a worker does."""
    publish_types(database.connect("worker"), registry)


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
        keyring: KeyRing | None = None,
    ) -> None:
        self.database = database
        self.registry = registry
        self.relay = database.connect("relay")
        self.worker = database.connect("worker")
        self.process = processes.ProcessRow(
            uuid4(), "worker", "test", 1, sorted({"default", *registry.queues()}), registry.versions(), slots
        )
        publish(database, registry)
        processes.beat(self.worker, self.process)
        sizes = {name: registry.get(name).batch_size or 1 for name in self.process.task_types}
        processes.offer(self.worker, self.process.id, sizes)
        config = ExecutorConfig(
            self.process.id, database.url("worker"), database.url("system"), False, lease_seconds, 60.0
        )
        self.executor = Executor(config, resources or Resources(), keyring)

    def claim(self, limit: int = 1000, claim_seconds: float = 30.0) -> list[queue.Claim]:
        """Promote what is due and claim what fits."""
        queue.promote(self.relay, limit)
        found: list[queue.Claim] = []
        for wanted in queue.capacity(self.relay, depth=1.0, process_timeout=3600.0):
            if len(found) < limit:
                room = limit - len(found)  # what is claimed beyond it would be nobody's until the claim lapses
                found += claim_from(self.relay, wanted, limit=room, claim_seconds=claim_seconds)
        return found

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
        return leases.take(
            self.worker, pairs, worker_id=self.process.id, lease_seconds=lease_seconds, time_limit=time_limit
        )

    def task(self, task_id: UUID) -> dict[str, Any]:
        """Return a task's row, whatever its status, by column."""
        cursor = self.database.connect().execute("SELECT * FROM queue.outbox_tasks WHERE id = %s", (task_id,))
        [row] = cursor.fetchall()
        return dict(zip((column.name for column in cursor.description or ()), row, strict=True))

    def attempts(self, task_id: UUID) -> list[tuple[Any, ...]]:
        """Return what is kept of a task's attempts: (number, outcome, error, traceback)."""
        query = (
            "SELECT number, outcome, error, traceback FROM queue.attempts WHERE task_id = %s ORDER BY ended_at, number"
        )
        return self.database.rows(query, (task_id,))

    def close(self) -> None:
        """Close the executor's connections."""
        self.executor.close()
