"""The two brokers behind one Dramatiq interface: in process, or Redis.

Postgres alone decides due time, retries, limits and dead letters, so both come without Dramatiq's middleware, delay
queues and dead-letter keeping. A message carries task ids and claim numbers, nothing else (invariant I7).
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import dramatiq
import redis
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed, QueueNotFound

from core.errors import UnavailableError
from db.connection import Connection
from db.queue import Capacity, Claim, Claims, Starter, capacity
from workers.handed import Handed

# What a rejected message may cost Redis: it is of no use, its claim is given back by Postgres.
_DEAD_MESSAGE_MS = 60_000
# A Redis that hangs is one that is away. Longer than a consumer waits in it.
_ANSWER_SECONDS = 5.0
# How long a consumer waits for a message before it looks whether it shall end.
WAIT_MS = 250
_MOST_TOKENS = 64
_TOKEN_SECONDS = 60
# The actor of messages whose task type this worker does not know: another one of the queue does.
STRANGER = "stranger"


class Offers(NamedTuple):
    """What a worker says of the task types that it runs: the payload versions it knows, how many travel together.

    `starter` is for a relay in its own process.
    """

    task_types: list[str]
    versions: list[int]
    batch_sizes: list[int]
    starter: Starter | None = None


class _AnswersAll(Broker):
    """A broker that has an actor for every message, and tells what it alone still holds and has room for.

    `is_shared` says whether its messages reach the workers of other processes; if not, their attempts are started with
    their claims, and `handed` to the worker.
    """

    is_shared = True
    handed: Handed | None = None

    def serve(
        self, queues: Iterable[str], slots: int, offers: Callable[[], Offers], handed: Handed | None = None
    ) -> None:
        """Learn what the worker in this process takes: `slots` messages at a time from its queues, of these types."""

    def capacity(self, connection: Connection, *, depth: float, process_timeout: float) -> list[Capacity]:
        """Return the free slots of each queue, by what live workers anywhere say of themselves in Postgres."""
        return capacity(connection, depth=depth, process_timeout=process_timeout)

    def now(self, wanted: Capacity, *, is_limited: bool) -> Capacity:
        """Return a queue's capacity after what was published since, for lanes where limits stand or where none does."""
        return wanted

    def when_room(self, act: Callable[[], None]) -> None:
        """Call `act` whenever a message of this process has ended; nobody tells of those of other processes."""

    def get_actor(self, actor_name: str) -> "dramatiq.Actor[Any, Any]":
        """Return the actor of a name, or the one that refuses messages."""
        return super().get_actor(actor_name if actor_name in self.actors else STRANGER)

    def leftovers(self) -> Claims:
        """Take out and return the claims of messages that end with this process."""
        return []


class InProcessBroker(_AnswersAll):
    """Messages travel through a queue in memory, for relay and workers in one process."""

    is_shared = False

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self.queues: dict[str, _Mailbox] = {}
        self._on_room: Callable[[], None] = lambda: None
        self._offers: Callable[[], Offers] = lambda: Offers([], [], [])
        self._serves: tuple[str, ...] = ()
        self._slots, self._depth = 0, 1.0

    def serve(
        self, queues: Iterable[str], slots: int, offers: Callable[[], Offers], handed: Handed | None = None
    ) -> None:
        """Learn what the worker in this process takes: `slots` messages at a time from its queues, of these types."""
        self._serves, self._slots, self._offers = tuple(queues), slots, offers
        self.handed = handed or self.handed

    def capacity(self, connection: Connection, *, depth: float, process_timeout: float) -> list[Capacity]:
        """Return what the threads of this process can begin now, for each queue: its messages reach no other's workers.

        They are the same threads for all queues. What is started is begun at once, so there is no depth to it.
        """
        self._depth = depth
        idle, offers = self._slots - self._outstanding(), self._offers()
        return [Capacity(name, idle, *offers) for name in self._serves]

    def now(self, wanted: Capacity, *, is_limited: bool) -> Capacity:
        """Return how many threads are idle; under limits it is claimed ahead, not started: a rate waits for none."""
        if is_limited:
            return replace(wanted, free=self._slots * self._depth - self._outstanding(), starter=None)
        return replace(wanted, free=self._slots - self._outstanding())

    def _outstanding(self) -> int:
        return sum(mailbox.outstanding for mailbox in self.queues.values())

    def when_room(self, act: Callable[[], None]) -> None:
        """Call `act` whenever a message has ended."""
        self._on_room = act

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known; again is fine."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = _Mailbox()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: "dramatiq.Message[None]", *, delay: int | None = None) -> "dramatiq.Message[None]":
        """Hand a message to the queue's consumer; raises QueueNotFound for a queue that nobody declared."""
        if delay is not None:
            raise ValueError("Postgres decides when a task is due: the broker takes no delays")
        if message.queue_name not in self.queues:
            raise QueueNotFound(message.queue_name)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        self.queues[message.queue_name].put(message)
        return message

    def end(self, queue_name: str) -> None:
        """Learn that a message of a queue has ended."""
        self.queues[queue_name].end()
        self._on_room()

    def leftovers(self) -> Claims:
        """Take out and return the claims of messages that nobody consumed."""
        found: list[tuple[UUID, int]] = []
        for waiting in self.queues.values():
            with contextlib.suppress(queue.Empty):
                while True:
                    found += claims_in(waiting.messages.get_nowait().args[0])
                    waiting.end()
        return found

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Return a consumer of a declared queue; `timeout` in milliseconds bounds each wait."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]  # as above
        return _InProcessConsumer(self.queues[queue_name].messages, partial(self.end, queue_name), timeout)


class _Mailbox:
    """A queue's messages in memory, and how many have not ended."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[dramatiq.Message[None]] = queue.SimpleQueue()
        self.outstanding = 0
        self._lock = threading.Lock()

    def put(self, message: "dramatiq.Message[None]") -> None:
        with self._lock:
            self.outstanding += 1
        self.messages.put(message)

    def end(self) -> None:
        with self._lock:
            self.outstanding -= 1


class _InProcessConsumer(Consumer):
    def __init__(
        self, source: "queue.SimpleQueue[dramatiq.Message[None]]", on_end: Callable[[], None], timeout: int
    ) -> None:
        self._source = source
        self._on_end = on_end
        self._timeout = timeout / 1000

    def __next__(self) -> MessageProxy | None:
        try:
            return MessageProxy(self._source.get(timeout=self._timeout))
        except queue.Empty:
            return None

    def ack(self, message: MessageProxy) -> None:
        """Tell that there is room for another message: this one was gone once taken."""
        self._on_end()

    def nack(self, message: MessageProxy) -> None:
        """Do as `ack`: its claim runs out and is given back by Postgres."""
        self._on_end()

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
    client = redis.Redis.from_url(url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS)
    return ShallowRedisBroker(  # type: ignore[no-untyped-call]  # as above
        client=client, middleware=[], namespace=namespace, dead_message_ttl=_DEAD_MESSAGE_MS
    )


def messages_of(claims: Iterable[Claim]) -> list[tuple["dramatiq.Message[None]", list[Claim]]]:
    """Group claims into messages: tasks of one queue, type and tenant travel together, as many as their type allows.

    The messages come in the order of the claims that fill them up, so that no group is sent whole before the next.
    """
    parts: dict[tuple[str, str, UUID | None, int], list[Claim]] = {}
    ready: list[list[Claim]] = []
    for claim in claims:
        key = (claim.queue, claim.task_type, claim.tenant_id, claim.batch_size)
        part = parts.get(key)
        if part is None:
            part = parts[key] = []
            ready.append(part)
        part.append(claim)
        if len(part) >= claim.batch_size:
            del parts[key]
    return [(_message(part), part) for part in ready]


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
