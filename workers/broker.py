"""The two brokers behind one Dramatiq interface: in process, or Redis.

Postgres alone decides due time, retries, limits and dead letters, so both come without Dramatiq's middleware, delay
queues and dead-letter keeping. A message carries task ids and claim numbers, nothing else (invariant I7).
"""

import contextlib
import queue
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import QueueNotFound

from core.errors import UnavailableError
from db.queue import Claim

# What a rejected message may cost Redis: it is of no use, its claim is given back by Postgres.
_DEAD_MESSAGE_MS = 60_000
# Dramatiq's consumer sleeps between looks at an idle queue, up to this long.
POLL_MS = 100


# The actor of messages whose task type this worker does not know: another one of the queue does.
STRANGER = "stranger"


class _AnswersAll(Broker):
    """A broker that has an actor for each message, and holds messages nowhere but where it says."""

    def get_actor(self, actor_name: str) -> "dramatiq.Actor[Any, Any]":
        """Return the actor of a name, or the one that refuses messages."""
        return super().get_actor(actor_name if actor_name in self.actors else STRANGER)

    def leftovers(self) -> list[tuple[UUID, int]]:
        """Take out and return the claims of messages that end with this process."""
        return []


class InProcessBroker(_AnswersAll):
    """Messages travel through a queue in memory, for relay and workers in one process."""

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.queues: dict[str, queue.SimpleQueue[dramatiq.Message[None]]] = {}

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; again is fine."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = queue.SimpleQueue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "dramatiq.Message[None]", *, delay: int | None = None) -> "dramatiq.Message[None]":
        """Hand a message to the queue's consumer; raises QueueNotFound for a queue that nobody declared."""
        if delay is not None:
            raise ValueError("Postgres decides when a task is due: the broker takes no delays")
        if message.queue_name not in self.queues:
            raise QueueNotFound(message.queue_name)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        self.queues[message.queue_name].put(message)
        return message

    def leftovers(self) -> list[tuple[UUID, int]]:
        """Take out and return the claims of messages that nobody consumed."""
        found: list[tuple[UUID, int]] = []
        for waiting in self.queues.values():
            with contextlib.suppress(queue.Empty):
                while True:
                    found += claims_in(waiting.get_nowait().args[0])
        return found

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Return a consumer of a declared queue; `timeout` in milliseconds bounds each wait."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]  # as above
        return _InProcessConsumer(self.queues[queue_name], timeout)


class _InProcessConsumer(Consumer):
    def __init__(self, source: "queue.SimpleQueue[dramatiq.Message[None]]", timeout: int) -> None:
        self._source = source
        self._timeout = timeout / 1000

    def __next__(self) -> MessageProxy | None:
        try:
            return MessageProxy(self._source.get(timeout=self._timeout))
        except queue.Empty:
            return None

    def ack(self, message: MessageProxy) -> None:
        """Nothing to do: a message in memory is gone once taken."""

    def nack(self, message: MessageProxy) -> None:
        """Nothing to do: its claim runs out and is given back by Postgres."""

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back what a worker that stops has not begun."""
        for message in messages:
            self._source.put(message.copy())


class ShallowRedisBroker(_AnswersAll, RedisBroker):
    """Dramatiq's Redis broker without delay queues, which would cost a consumer thread each and hold nothing."""

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; again is fine."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)


def open_broker(url: str | None, namespace: str) -> InProcessBroker | ShallowRedisBroker:
    """Return the broker of an address: None is in process, redis:// or rediss:// is Redis."""
    if url is None:
        return InProcessBroker()
    return ShallowRedisBroker(  # type: ignore[no-untyped-call]  # as above
        url=url, middleware=[], namespace=namespace, dead_message_ttl=_DEAD_MESSAGE_MS
    )


def ping(url: str) -> None:
    """Ask the Redis of an address for a sign of life; raises UnavailableError when none comes within 3 seconds."""
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:  # ValueError: it is no address of a Redis
        raise UnavailableError(f"the broker does not answer: {type(error).__name__}") from error


def messages_of(claims: Iterable[Claim]) -> list[tuple["dramatiq.Message[None]", list[Claim]]]:
    """Group claims into messages: tasks of one queue, type and tenant travel together, as many as their type allows."""
    groups: dict[tuple[str, str, UUID | None, int], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.queue, claim.task_type, claim.tenant_id, claim.batch_size), []).append(claim)
    return [
        (_message(part), part)
        for (*_, size), members in groups.items()
        for part in (members[i : i + size] for i in range(0, len(members), size))
    ]


def publish(broker: Broker, message: "dramatiq.Message[None]") -> None:
    """Hand a message to the broker; raises UnavailableError when the broker does not take it."""
    try:
        broker.declare_queue(message.queue_name)
        broker.enqueue(message)
    except Exception as error:
        raise UnavailableError(f"the broker does not take messages: {type(error).__name__}") from error


def claims_in(listed: Iterable[Sequence[str | int]]) -> list[tuple[UUID, int]]:
    """Return the claims that a message carries."""
    # A UUID is made of a number in a quarter of the time that it takes to read its text, dashes or not.
    return [(UUID(int=int(str(task_id), 16)), int(number)) for task_id, number in listed]


def _message(claims: Sequence[Claim]) -> "dramatiq.Message[None]":
    first = claims[0]
    return dramatiq.Message(
        queue_name=first.queue,
        actor_name=first.task_type,
        args=([[claim.task_id.hex, claim.claim_number] for claim in claims],),
        kwargs={},
        options={},
    )
