"""The relay's loops about what is wrong: the Watcher finds it in Postgres, the Notifier tells the webhook.

Two loops, so that a webhook that hangs holds up nothing that finds. Any number of relays run both: an alert is a row
that is raised once and resolved once, and each of its states is lent to one Notifier at a time.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from core import events
from core.backoff import Backoff
from core.errors import UnavailableError
from core.service import Loop
from core.settings import Settings
from db import alerts
from db.connection import KeptConnection

_LOOK_SECONDS = 30.0
# Less than the pause, so that one relay alone looks each time and of many nobody waits for another's.
_LOOKED_SECONDS = 20.0
# Two looks: what is gone for one look only has not been mended.
_CALM_SECONDS = 60.0
_IDLE_SECONDS = 30.0
_LENT_SECONDS = 30.0


class Post(Protocol):
    """What tells an alert's state to somebody."""

    def post(self, telling: alerts.Telling) -> None:
        """Tell it; raises UnavailableError where nobody took it."""
        ...


def thresholds_of(settings: Settings) -> alerts.Thresholds:
    """Return from when on something is wrong."""
    wanted = settings.alerts
    return alerts.Thresholds(
        failures=wanted.failures,
        window=wanted.failure_seconds,
        stalled=wanted.stalled_seconds,
        late=wanted.late_seconds,
        process_timeout=settings.relay.process_timeout,
        calm=_CALM_SECONDS,
    )


def alert_loops(connect: Callable[[str], KeptConnection], settings: Settings) -> list[Loop]:
    """Return a relay's loops about alerts; without a webhook there is nobody to tell. `connect` is given a name."""
    wanted, days = settings.alerts, settings.statistics.keep_days
    if wanted.webhook_url is None:
        return [Loop(Watcher(connect("watcher"), thresholds_of(settings), days))]
    from workers.webhook import Webhook

    webhook = Webhook(wanted.webhook_url, wanted.webhook_secret, wanted.webhook_timeout)
    notifier = Loop(Notifier(connect("notifier"), webhook, wanted.webhook_timeout))
    return [notifier, Loop(Watcher(connect("watcher"), thresholds_of(settings), days, notifier.wake))]


class Watcher:
    """Looks for what is wrong; `on_change` is called when there is something to tell."""

    name = "watcher"

    def __init__(
        self,
        connection: KeptConnection,
        thresholds: alerts.Thresholds,
        keep_days: int,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._thresholds = thresholds
        self._keep_days = keep_days
        self._on_change = on_change

    def run_once(self) -> float:
        """Look once, unless another relay just did."""
        connection = self._connection.get()
        looked = alerts.look(connection, self._thresholds, pause=_LOOKED_SECONDS, keep_days=self._keep_days)
        if looked is not None:
            for kind, key in looked.raised:
                events.emit(events.AlertRaised(kind, key))
            for kind, key in looked.resolved:
                events.emit(events.AlertResolved(kind, key))
            if looked.raised or looked.resolved:
                self._on_change()
        counts = Counter(alert.kind for alert in alerts.raised(connection))
        events.emit(events.AlertsStanding(dict(counts)))
        return _LOOK_SECONDS

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Notifier:
    """Tells each state of each alert to the webhook, one at a time, again and again until it is taken."""

    name = "notifier"

    def __init__(self, connection: KeptConnection, webhook: Post, timeout: float) -> None:
        self._connection = connection
        self._webhook = webhook
        self._lend_for = timeout + _LENT_SECONDS
        self._backoff = Backoff(base=5.0, maximum=600.0)
        # One address takes them all: while it fails, the others need not be tried at once.
        self._pauses = Backoff(base=1.0, maximum=60.0)
        self._failures = 0

    def run_once(self) -> float:
        """Tell one state; at once again while there are more and they are taken."""
        telling = alerts.lend(self._connection.get(), seconds=self._lend_for)
        if telling is None:
            return _IDLE_SECONDS
        try:
            self._webhook.post(telling)
        except UnavailableError as error:
            return self._put_off(telling, str(error))
        self._failures = 0
        alerts.told(self._connection.get(), telling)
        return 0.0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _put_off(self, telling: alerts.Telling, problem: str) -> float:
        self._failures += 1
        delay = self._backoff.delay(telling.tries)
        alerts.put_off(self._connection.get(), telling, delay)
        events.emit(events.WebhookFailed(telling.key, problem, round(delay, 1)))
        return self._pauses.delay(self._failures)
