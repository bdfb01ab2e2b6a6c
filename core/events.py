"""The catalogue of events: what code emits, and what logs, metrics and traces are made of.

Code emits an event once; subscribers (`core.logs`, `core.metrics`, `core.spans`) turn it into log lines, metrics and
spans. Field names are public; docs/observability.md lists them. No subscriber lets out a payload, a secret or a
document's text (invariant I7): ids, types, counts, seconds, places in code. `error` fields are texts of whoever raised,
scrubbed as well as can be: they are for the process itself, and subscribers leave out those that are not ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `name` is the public name, `level` the log's level unless `core.logs.level_of` says other."""

    name: ClassVar[str] = "event"
    level: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True)
class StoreCalled(Event):
    """A named query ran; `seconds` of wall time, `rows` returned or touched."""

    name = "store.called"
    level = "debug"
    query: str
    seconds: float
    rows: int


@dataclass(frozen=True, slots=True)
class ProcessStarted(Event):
    """A process of ours is ready for work."""

    name = "process.started"
    kind: str
    process_id: UUID
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProcessStopped(Event):
    """A process of ours ends in order; `handed_back` attempts were given up without cost."""

    name = "process.stopped"
    kind: str
    process_id: UUID
    handed_back: int = 0


@dataclass(frozen=True, slots=True)
class ProcessLeaving(Event):
    """A process takes nothing more, finishes what runs and is replaced, for `reason`."""

    name = "process.leaving"
    level = "warning"
    kind: str
    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChildEnded(Event):
    """A child of ours ended by itself (`status` below 0: by that signal); its successor starts after `retry_in`."""

    name = "child.ended"
    level = "error"
    kind: str
    pid: int
    status: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class TasksPublished(Event):
    """The relay claimed tasks and the broker took them."""

    name = "relay.published"
    level = "debug"
    tasks: int
    messages: int


@dataclass(frozen=True, slots=True)
class PublishFailed(Event):
    """The broker refused messages; their claims were given back."""

    name = "relay.publish_failed"
    level = "warning"
    tasks: int
    error: str


@dataclass(frozen=True, slots=True)
class TasksRescued(Event):
    """Leases ran out: `retried` wait again, `failed` are out of attempts, `cancelled` had been asked to end.

    `unclaimed` claims were given back.
    """

    name = "relay.rescued"
    level = "warning"
    retried: int
    failed: int
    cancelled: int
    unclaimed: int


@dataclass(frozen=True, slots=True)
class StaleTasksCancelled(Event):
    """Pending tasks ended as cancelled: nobody took them for as long as their type lets them wait."""

    name = "relay.cancelled_stale"
    level = "warning"
    tasks: int


@dataclass(frozen=True, slots=True)
class ListenChanged(Event):
    """The round-trip test of LISTEN changed its verdict; without it the relay polls."""

    name = "relay.listen_changed"
    level = "warning"
    heard: bool


@dataclass(frozen=True, slots=True)
class QueuesMeasured(Event):
    """A relay knows how queues stood last: by name, tasks that wait and that run, and seconds that the oldest waits."""

    name = "queues.measured"
    level = "debug"
    queues: dict[str, tuple[int, int, float]]


@dataclass(frozen=True, slots=True)
class AlertRaised(Event):
    """Something is wrong that was not before; `key` says what."""

    name = "alert.raised"
    level = "warning"
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class AlertResolved(Event):
    """It is not wrong any more."""

    name = "alert.resolved"
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class AlertsStanding(Event):
    """A relay knows how many alerts of each kind are raised."""

    name = "alerts.standing"
    level = "debug"
    kinds: dict[str, int]


@dataclass(frozen=True, slots=True)
class WebhookFailed(Event):
    """The webhook did not take an alert's state, for `problem`; it is told again after `retry_in` seconds."""

    name = "webhook.failed"
    level = "warning"
    key: str
    problem: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class ScheduleFired(Event):
    """A time of a schedule was settled, `late` seconds after it: `outcome` is enqueued, missed or overlapped.

    `missed` times before it were missed and have no row of their own.
    """

    name = "schedule.fired"
    schedule: str
    task_type: str
    outcome: str
    late: float
    missed: int
    task_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ScheduleRefused(Event):
    """A schedule's task cannot run, for `reason`; with a `task_id` it is held and waits to be released."""

    name = "schedule.refused"
    level = "error"
    schedule: str
    task_type: str
    reason: str
    task_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class RetentionAsks(Event):
    """A policy's run would take `rows`, more than its share of a table, and waits for an operator."""

    name = "retention.asks"
    level = "warning"
    policy: str
    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class ClockSetBack(Event):
    """Postgres' clock stands `seconds` before the time up to which a schedule is settled: it goes on from now."""

    name = "schedule.clock_set_back"
    level = "warning"
    schedule: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptStarted(Event):
    """A handler starts on a batch of tasks of one type."""

    name = "attempt.started"
    level = "debug"
    task_type: str
    tasks: int


@dataclass(frozen=True, slots=True)
class AttemptRaised(Event):
    """A handler, or its apply, raised: the error's class and the `module:line` that raised it."""

    name = "attempt.raised"
    level = "info"
    task_type: str
    task_id: UUID
    attempt: int
    error_type: str
    where: str


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """One task's attempt has its outcome; `waited` seconds from due to start, `seconds` of running.

    `started` is a reading of the process's monotonic clock. Logged at debug, unless it failed (warning): a busy worker
    ends tens of thousands of them a second.
    """

    name = "attempt.ended"
    level = "debug"
    task_type: str
    task_id: UUID
    outcome: str
    attempt: int
    seconds: float
    waited: float
    trace_context: str | None = None
    started: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptLost(Event):
    """A claim or lease was no longer ours when the attempt wanted to write; nothing was written."""

    name = "attempt.lost"
    level = "warning"
    task_type: str
    task_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class KeyPaused(Event):
    """A provider refused: nothing of its limit key is claimed for `seconds`, unless a pause that stands is longer."""

    name = "key.paused"
    level = "warning"
    key: str
    seconds: float
    task_type: str
    task_id: UUID


@dataclass(frozen=True, slots=True)
class HandlerStuck(Event):
    """A handler of `tasks` tasks, one of them `task_id`, could not be interrupted: its thread is lost."""

    name = "handler.stuck"
    level = "error"
    task_type: str
    task_id: UUID
    tasks: int


@dataclass(frozen=True, slots=True)
class PersonaUnmeasured(Event):
    """A persona's container or process could not be measured; `reason` is one of `pipelines.health.readings.Reason`."""

    name = "persona.unmeasured"
    level = "warning"
    persona_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class SummaryRejected(Event):
    """A chat model's summary was not taken, and sentences of the sources stand in for it.

    `reason` is one of `pipelines.memory.summarising.answers.Reason`.
    """

    name = "summary.rejected"
    level = "warning"
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class MailGiven(Event):
    """What came of an attempt to send a mail: `outcome` is sent, retry, failed or unknown, `code` the server's refusal.

    Of `size_bytes` and `recipients` the server was told; `refused` are those that it took the mail not for. `seconds`
    from the attempt's begin.
    """

    name = "mail.given"
    email_id: UUID
    outcome: str
    code: int | None
    seconds: float
    size_bytes: int
    recipients: int
    refused: int


@dataclass(frozen=True, slots=True)
class MailboxWatch(Event):
    """A mailbox's connection in IDLE came or went: `state` is watched, lost, left, refused or no_idle.

    This process has `watching` of them now.
    """

    name = "mailbox.watch"
    level = "debug"
    mailbox_id: UUID
    state: str
    watching: int


@dataclass(frozen=True, slots=True)
class LoopFailed(Event):
    """A service's round raised, at `where` in the code; it runs again after `retry_in` seconds."""

    name = "loop.failed"
    level = "error"
    loop: str
    error_type: str
    error: str
    retry_in: float
    where: str = ""


@dataclass(frozen=True, slots=True)
class MessageFailed(Event):
    """A message could not be brought to an end, for a reason that is no task's; its attempts are given up."""

    name = "message.failed"
    level = "error"
    task_type: str
    error_type: str
    where: str


Subscriber = Callable[[Event], None]
_subscribers: list[Subscriber] = []


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Add a subscriber; return the function that takes it away again. Subscribers must be quick and not raise."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


def emit(event: Event) -> None:
    """Hand an event to every subscriber, in the caller's thread."""
    for subscriber in tuple(_subscribers):
        subscriber(event)
