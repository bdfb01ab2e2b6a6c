"""Metrics for Prometheus, in a registry of their own, served over HTTP. Imported only where a port is set.

docs/observability.md lists them. Labels are closed sets (task types, outcomes, queries, loops), never ids or texts.
"""

from collections.abc import Callable, Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core import events
from core.errors import SettingsError
from core.events import (
    AlertsStanding,
    AttemptEnded,
    AttemptLost,
    Event,
    ListenChanged,
    LoopFailed,
    MailboxWatch,
    MailGiven,
    PublishFailed,
    QueuesMeasured,
    ScheduleFired,
    ScheduleRefused,
    StoreCalled,
    SummaryRejected,
    TasksPublished,
    TasksRescued,
    WebhookFailed,
)
from core.loops import loops_late

_RUN_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800)
_WAIT_SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 5, 30, 120, 600, 3600)
_STORE_SECONDS = (0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)


def start(address: str, port: int) -> Callable[[], None]:
    """Serve the metrics at http://address:port/metrics; return the function that ends it.

    Raises SettingsError when the address is not to be had.
    """
    metrics = Metrics()
    try:
        server, thread = start_http_server(port, address, metrics.registry)
    except OSError as error:
        raise SettingsError(
            f"GREENROOM_OBSERVE_METRICS_PORT: cannot serve metrics at {address}:{port} ({error.strerror}): "
            "each process on a machine needs a port of its own"
        ) from error
    forget = events.subscribe(metrics.on_event)

    def close() -> None:
        forget()
        server.shutdown()
        server.server_close()
        thread.join()

    return close


class Metrics:
    """The metrics of one process, kept by its events."""

    def __init__(self) -> None:
        # a second series for each, which nobody reads
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_LoopsLate())
        self._attempts = Counter(
            "greenroom_attempts", "Attempts that ended.", ["task_type", "outcome"], registry=registry
        )
        self._run = Histogram(
            "greenroom_attempt_seconds", "Time a handler ran.", ["task_type"], registry=registry, buckets=_RUN_SECONDS
        )
        self._wait = Histogram(
            "greenroom_wait_seconds", "Time from due to start.", ["task_type"], registry=registry, buckets=_WAIT_SECONDS
        )
        self._store = Histogram(
            "greenroom_store_seconds", "Time of a named query.", ["query"], registry=registry, buckets=_STORE_SECONDS
        )
        self._published = Counter("greenroom_published", "Tasks handed to the broker.", registry=registry)
        self._refused = Counter(
            "greenroom_publish_failures", "Times that the broker took no messages.", registry=registry
        )
        self._rescued = Counter("greenroom_rescued", "Tasks taken back, by how.", ["how"], registry=registry)
        self._loop_failures = Counter("greenroom_loop_failures", "Rounds that raised.", ["loop"], registry=registry)
        self._heard = Gauge("greenroom_listen_heard", "1 if LISTEN hears, 0 if the relay polls.", registry=registry)
        self._waiting = Gauge("greenroom_queue_waiting", "Due tasks that wait.", ["queue"], registry=registry)
        self._running = Gauge("greenroom_queue_running", "Tasks that run.", ["queue"], registry=registry)
        self._oldest = Gauge(
            "greenroom_queue_oldest_seconds", "Time that the oldest due task waits.", ["queue"], registry=registry
        )
        self._alerts = Gauge("greenroom_alerts_raised", "Alerts that are raised.", ["kind"], registry=registry)
        self._webhook_failures = Counter(
            "greenroom_webhook_failures", "Times that the webhook did not take an alert.", registry=registry
        )
        self._fires = Counter(
            "greenroom_fires", "Times of schedules that were settled.", ["outcome"], registry=registry
        )
        self._late = Histogram(
            "greenroom_fire_late_seconds",
            "Time from a schedule's time to its settling.",
            registry=registry,
            buckets=_WAIT_SECONDS,
        )
        self._rejected = Counter(
            "greenroom_summaries_rejected",
            "Summaries of chat models that were not taken.",
            ["reason"],
            registry=registry,
        )
        self._mails = Counter(
            "greenroom_mails_given", "Attempts to send a mail, by what came of them.", ["outcome"], registry=registry
        )
        self._watching = Gauge(
            "greenroom_mailboxes_watched", "Mailboxes that this process has in IDLE.", registry=registry
        )
        self._watches = Counter(
            "greenroom_mailbox_watches", "Connections in IDLE that came or went.", ["state"], registry=registry
        )
        self._ended: dict[tuple[str, str], tuple[Counter, Histogram, Histogram]] = {}
        self._queries: dict[str, Histogram] = {}

    def on_event(self, event: Event) -> None:
        """Count an event."""
        match event:
            case AttemptEnded():
                self._count_attempt(event)
            case StoreCalled(query=query, seconds=seconds):
                self._store_of(query).observe(seconds)
            case AttemptLost(task_type=task_type):
                self._attempts.labels(task_type, "lost").inc()
            case LoopFailed(loop=loop):
                self._loop_failures.labels(loop).inc()
            case _:
                self._count_relay(event)

    def _count_relay(self, event: Event) -> None:
        match event:
            case TasksPublished(tasks=tasks):
                self._published.inc(tasks)
            case PublishFailed():
                self._refused.inc()
            case TasksRescued():
                for how in ("retried", "failed", "cancelled", "unclaimed"):
                    self._rescued.labels(how).inc(getattr(event, how))
            case ListenChanged(heard=heard):
                self._heard.set(heard)
            case _:
                self._tell_state(event)

    def _tell_state(self, event: Event) -> None:
        """Show what Postgres says of all processes; a queue or a kind that is not named any more is gone."""
        match event:
            case QueuesMeasured(queues=queues):
                for position, gauge in enumerate((self._waiting, self._running, self._oldest)):
                    gauge.clear()
                    for queue, measures in queues.items():
                        gauge.labels(queue).set(measures[position])
            case AlertsStanding(kinds=kinds):
                self._alerts.clear()
                for kind, count in kinds.items():
                    self._alerts.labels(kind).set(count)
            case WebhookFailed():
                self._webhook_failures.inc()
            case _:
                self._count_fire(event)

    def _count_fire(self, event: Event) -> None:
        match event:
            case ScheduleFired(outcome=outcome, late=late):
                self._fires.labels(outcome).inc()
                self._late.observe(late)
            case ScheduleRefused(task_id=None):
                self._fires.labels("refused").inc()
            case SummaryRejected(reason=reason):
                self._rejected.labels(reason).inc()
            case MailGiven(outcome=outcome):
                self._mails.labels(outcome).inc()
            case MailboxWatch(state=state, watching=watching):
                self._watches.labels(state).inc()
                self._watching.set(watching)
            case _:
                pass

    def _count_attempt(self, event: AttemptEnded) -> None:
        # labels() takes longer than the counting itself, so children are kept; 5 µs an attempt (November 2026).
        key = (event.task_type, event.outcome)
        children = self._ended.get(key)
        if children is None:
            children = self._ended[key] = (
                self._attempts.labels(*key),
                self._run.labels(event.task_type),
                self._wait.labels(event.task_type),
            )
        ended, run, wait = children
        ended.inc()
        run.observe(event.seconds)
        wait.observe(event.waited)

    def _store_of(self, query: str) -> Histogram:
        child = self._queries.get(query)
        if child is None:
            child = self._queries[query] = self._store.labels(query)
        return child


class _LoopsLate(Collector):
    """Read at the scrape: a loop that hangs counts nothing itself."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "greenroom_loop_late_seconds", "Time by which a loop's next good round is overdue.", labels=["loop"]
        )
        for loop, seconds in loops_late().items():
            family.add_metric([loop], seconds)
        yield family
