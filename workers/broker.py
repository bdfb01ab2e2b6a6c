"""The two brokers behind one Dramatiq interface: in process, or Redis.

Postgres alone decides due time, retries, limits and dead letters, so both come without Dramatiq's middleware, delay
queues and dead-letter keeping. A message carries task ids and claim numbers, nothing else (invariant I7).
"""

import contextlib
import queue
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed, QueueNotFound

from core.errors import UnavailableError
from db.queue import Claim, Claims

# What a rejected message may cost Redis: it is of no use, its claim is given back by Postgres.
_DEAD_MESSAGE_MS = 60_000
# How long a consumer waits for a message before it looks whether it shall end.
WAIT_MS = 250
_MOST_TOKENS = 64
_TOKEN_SECONDS = 60
# The actor of messages whose task type this worker does not know: another one of the queue does.
STRANGER = "stranger"


class _AnswersAll(Broker):
    """A broker that has an actor for every message, and tells what it alone still holds."""

    def get_actor(self, actor_name: str) -> "dramatiq.Actor[Any, Any]":
        """Return the actor of a name, or the one that refuses messages."""
        return super().get_actor(actor_name if actor_name in self.actors else STRANGER)

    def leftovers(self) -> Claims:
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

    def leftovers(self) -> Claims:
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
    """Dramatiq's Redis broker whose consumers are woken, without delay queues, which would cost a thread each."""

    def enqueue(self, message: "dramatiq.Message[None]", *, delay: int | None = None) -> "dramatiq.Message[None]":
        """Put a message into Redis and wake one consumer of its queue."""
        enqueued: dramatiq.Message[None] = super().enqueue(message, delay=delay)
        key = self._wake_key(message.queue_name)
        with self.client.pipeline(transaction=False) as pipeline:
            # Tokens that nobody waits for are few, and gone after a while: each costs a consumer one needless look.
            pipeline.rpush(key, 1)
            pipeline.ltrim(key, -_MOST_TOKENS, -1)
            pipeline.expire(key, _TOKEN_SECONDS)
            pipeline.execute()
        return enqueued

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Return a consumer that waits in Redis; `timeout` in milliseconds bounds each wait."""
        inner = super().consume(queue_name, prefetch, 1)  # its own sleep between two looks, in milliseconds
        return _WokenConsumer(inner, self.client, self._wake_key(queue_name), timeout)

    def _wake_key(self, queue_name: str) -> str:
        return f"{self.namespace}:{queue_name}.wake"

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; again is fine."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)


class _WokenConsumer(Consumer):
    """Dramatiq's consumer, which sleeps between looks at an idle queue, waiting for the relay's token instead."""

    def __init__(self, inner: Consumer, client: redis.Redis, key: str, timeout: int) -> None:
        self._inner: Any = inner
        self._client = client
        self._key = key
        self._timeout = timeout / 1000
        self._has_room = threading.Event()

    def __next__(self) -> MessageProxy | None:
        message: MessageProxy | None = next(self._inner)
        if message is None:
            self._wait()
        return message

    def _wait(self) -> None:
        if self._inner.outstanding_message_count >= self._inner.prefetch:
            self._has_room.wait(self._timeout)
            self._has_room.clear()
            return
        try:
            self._client.blpop([self._key], timeout=self._timeout)
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped

    def ack(self, message: MessageProxy) -> None:
        """Tell Redis that the message is done with."""
        self._inner.ack(message)
        self._has_room.set()

    def nack(self, message: MessageProxy) -> None:
        """Tell Redis that the message is of no use."""
        self._inner.nack(message)
        self._has_room.set()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Put back what a worker that stops has not begun."""
        self._inner.requeue(messages)

    def close(self) -> None:
        """Close the consumer."""
        self._inner.close()


AnyBroker = InProcessBroker | ShallowRedisBroker


def open_broker(url: str | None, namespace: str) -> AnyBroker:
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


def claims_in(listed: Iterable[Sequence[str | int]]) -> Claims:
    """Return the claims of a message's argument."""
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
