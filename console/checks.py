"""The checks of `doctor`: each looks at one thing and says how it is, what that means, and what to do about it."""

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from console.output import duration
from console.runtime import Operation
from core.errors import SettingsError, UnavailableError
from core.settings import Settings
from db import alerts, health, limits, months, tasks
from db.roles import role_name
from db.schema import WANTED_REVISION

Level = Literal["ok", "warning", "wrong"]
PGVECTOR_WANTED = (0, 8, 4)  # older ones can corrupt an HNSW index
_KINDS = frozenset({"relay", "worker"})
_LAG = 5_000_000
_OPEN_SECONDS = 3600.0
# Months are made two ahead: one that lacks so late is not in the making.
_AHEAD = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `wrong` makes `doctor` fail."""

    name: str
    level: Level
    detail: str


def all_checks(operation: Operation) -> list[Check]:
    """Look at everything."""
    connection, settings = operation.connection, operation.settings
    timeout = settings.relay.process_timeout
    processes = tasks.processes(connection)
    return [
        *database(health.server(connection)),
        Check("schema", "ok", WANTED_REVISION),  # an operation begins with no other
        *living(processes, timeout, settings.alerts.late_seconds, is_embedded=operation.place.is_embedded),
        *listening(processes, timeout, is_deaf_by_choice=any("LISTEN" in warning for warning in settings.warnings())),
        broker(settings),
        *queues(tasks.queues(connection, process_timeout=timeout), settings.alerts.stalled_seconds),
        *refused(limits.limits(connection)),
        *ahead(months.missing(connection), datetime.now(UTC)),
        *raised(alerts.raised(connection)),
        transactions(health.oldest_transaction(connection)),
        *storage(settings, operation.place.url),
        *(Check("settings", "warning", warning) for warning in settings.warnings()),
    ]


def own_checks(operation: Operation) -> list[Check]:
    """Look at what one host answers for: it reaches database and broker, and its relay or worker lives.

    Which of the two is what the login says; any other login asks after both.
    """
    connection, settings = operation.connection, operation.settings
    user = urlsplit(operation.place.url).username
    kinds = frozenset(kind for kind in _KINDS if user == role_name(kind)) or _KINDS
    host = socket.gethostname()
    mine = [process for process in tasks.processes(connection) if process.host == host and process.kind in kinds]
    timeout = settings.relay.process_timeout
    return [
        *database(health.server(connection)),
        *living(mine, timeout, operation.settings.alerts.late_seconds, is_embedded=False, wanted=kinds),
        broker(settings),
    ]


def database(server: health.Server) -> Iterator[Check]:
    """The server answers, and its pgvector is one that can be trusted."""
    yield Check("database", "ok", f"PostgreSQL {server.version}")
    if server.pgvector is None:
        yield Check("pgvector", "wrong", "the extension is missing: run `greenroom db migrate` as the owner")
        return
    found = tuple(int(part) for part in re.findall(r"\d+", server.pgvector)[:3])
    wanted = ".".join(map(str, PGVECTOR_WANTED))
    if found < PGVECTOR_WANTED:
        yield Check("pgvector", "wrong", f"{server.pgvector} is too old: install {wanted} or newer on the server")
    else:
        yield Check("pgvector", "ok", server.pgvector)


def living(
    processes: Iterable[tasks.LiveProcess],
    timeout: float,
    late_seconds: float,
    *,
    is_embedded: bool,
    wanted: frozenset[str] = _KINDS,
) -> Iterator[Check]:
    """Relay and worker live, and so do their loops."""
    kinds = set()
    for process in processes:
        name = f"{process.kind} {process.host}/{process.pid}"
        late = {loop: seconds for loop, seconds in sorted(process.loops_late.items()) if seconds > late_seconds}
        if process.silent_seconds > timeout:
            yield Check(name, "warning", f"silent for {duration(process.silent_seconds)}: gone, or cut off")
            continue
        kinds.add(process.kind)
        heard = f"heard {duration(process.silent_seconds)} ago"
        if late:
            loops = ", ".join(f"{loop} is late by {duration(seconds)}" for loop, seconds in late.items())
            yield Check(name, "wrong", f"{heard}, but {loops}: look at its log, and restart it")
        else:
            yield Check(name, "ok", f"{heard}, {len(process.loops_late)} loops in time")
    for missing in sorted(wanted - kinds):
        if is_embedded and not kinds:
            yield Check(missing, "ok", "none runs: commands bring their own, `greenroom up` keeps one running")
        else:
            yield Check(missing, "wrong", f"none lives: start `greenroom {missing}`, or `greenroom up`")


def listening(processes: Iterable[tasks.LiveProcess], timeout: float, *, is_deaf_by_choice: bool) -> Iterator[Check]:
    """Relays hear NOTIFY, as their own round trips say."""
    relays = [p for p in processes if p.kind == "relay" and p.silent_seconds <= timeout]
    deaf = [p for p in relays if p.hears_notify is False]
    if deaf and not is_deaf_by_choice:
        yield Check(
            "listen",
            "wrong",
            f"{len(deaf)} of {len(relays)} relays hear nothing and poll: set GREENROOM_DATABASE_DIRECT_URL",
        )
    elif relays:
        yield Check("listen", "ok", "relays poll" if deaf else "relays are rung")


def broker(settings: Settings) -> Check:
    """The broker answers."""
    if settings.broker.url is None:
        return Check("broker", "ok", "in process")
    from workers.broker import ping

    url = settings.broker.url.get_secret_value()
    where = _where(url)
    try:
        ping(url)
    except UnavailableError as error:
        return Check("broker", "wrong", f"Redis at {where}: {error}; nothing is lost meanwhile")
    return Check("broker", "ok", f"Redis at {where}")


def queues(rows: Iterable[tasks.QueueRow], stalled_seconds: float) -> Iterator[Check]:
    """What waits is served, and not for too long."""
    for row in rows:
        name = f"queue {row.name}"
        oldest = f"{row.waiting} wait, the oldest for {duration(row.oldest_seconds)}"
        if row.held:
            yield Check(name, "warning", f"{row.held} tasks are held: `greenroom tasks list --held` says why")
        if row.paused_at is not None:
            yield Check(name, "warning", f"paused, {row.waiting} wait: `greenroom queues resume {row.name}`")
        elif row.waiting and not row.workers:
            yield Check(name, "wrong", f"{oldest}, and no worker serves it: start one with `greenroom up` or `worker`")
        elif row.waiting and row.oldest_seconds > stalled_seconds:
            yield Check(name, "warning", f"{oldest}: more workers would help")
        else:
            yield Check(name, "ok", oldest if row.waiting else "nothing waits")


def raised(found: Iterable[alerts.Alert]) -> Iterator[Check]:
    """No alert is raised; the relays that live decide (docs/alerts.md)."""
    for alert in found:
        facts = ", ".join(f"{name} {value}" for name, value in sorted(alert.facts.items()))
        told = "" if alert.is_told else "; no webhook was told"
        yield Check(f"alert {alert.kind}", "warning", f"for {duration(alert.seconds)}: {facts}{told}")


def refused(rows: Iterable[limits.LimitRow]) -> Iterator[Check]:
    """No provider has refused: what goes by its key would wait."""
    for row in rows:
        if row.paused_until is not None:
            until = f"{row.paused_until:%Y-%m-%d %H:%M:%S %Z}"
            yield Check(f"key {row.name}", "warning", f"its provider refused: nothing of it is claimed until {until}")


def ahead(missing: Iterable[tuple[str, datetime]], now: datetime) -> Iterator[Check]:
    """Each table that is parted by months has the next one; a row whose month is not there is refused."""
    for relation, since in missing:
        if since <= now + _AHEAD:
            level: Level = "wrong" if since <= now else "warning"
            advice = "see in the relay's log what it says of it, or who locks the table for long"
            yield Check(f"months {relation}", level, f"there is none for {since:%Y-%m}: {advice}")


def transactions(oldest: health.OldestTransaction) -> Check:
    """No transaction has been open for so long that the queue bloats."""
    detail = f"the oldest snapshot lags {oldest.lag} transactions, the longest open is {duration(oldest.seconds)} old"
    is_long = oldest.lag > _LAG or oldest.seconds > _OPEN_SECONDS
    return Check(
        "transactions", "warning" if is_long else "ok", detail + (": end it, it bloats the queue" if is_long else "")
    )


def storage(settings: Settings, url: str) -> Iterator[Check]:
    """The storage can be written to; a relay has no business with it."""
    if urlsplit(url).username == role_name("relay"):
        return
    from pipelines.documents.storage import storage_of

    try:
        found = storage_of(settings)
        found.check()
    except (UnavailableError, SettingsError) as error:
        yield Check("storage", "wrong", str(error))
    else:
        yield Check("storage", "ok", found.place)


def _where(url: str) -> str:
    """Return the place of a Redis without its password."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path
