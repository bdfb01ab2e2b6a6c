"""The work: who lives, who hears, what waits, and what the relays say is wrong."""

import socket
from collections.abc import Iterator

from console.checks.findings import Finding, Sight, check
from console.output import duration, size
from db import alerts, files, fires, limits, mailboxes, retention_runs, tasks

_FAILED_POLLS, _MOST_NAMED = 5, 20
KINDS = frozenset({"relay", "worker"})
"""The kinds of process without which nothing is done; where there are schedules, a scheduler too."""


@check(
    "processes",
    finds="no relay, worker or (where there are schedules) scheduler lives, one is silent, or a loop is late",
    is_own=True,
)
def processes(sight: Sight) -> Iterator[Finding]:
    """Every kind of process lives, and so do their loops; of a host itself, the kind that its login says."""
    found, timeout = tasks.processes(sight.connection), sight.settings.relay.process_timeout
    wanted = KINDS | {"scheduler"} if _has_schedules(sight) else KINDS
    if sight.is_own:
        host = socket.gethostname()
        wanted = frozenset(kind for kind in KINDS | {"scheduler"} if kind == sight.place.kind) or wanted
        found = [process for process in found if process.host == host and process.kind in wanted]
    lives = [process for process in found if process.silent_seconds <= timeout]
    for process in found:
        yield _living(process, timeout, sight.settings.alerts.late_seconds)
    for missing in sorted(wanted - {process.kind for process in lives}):
        if sight.place.is_embedded and not lives and not sight.is_own:
            yield Finding(missing, "ok", "none runs: commands bring their own, `greenroom up` keeps one running")
        else:
            yield Finding(missing, "wrong", f"none lives: start `greenroom {missing}`, or `greenroom up`")


def _has_schedules(sight: Sight) -> bool:
    """Return whether there are schedules to be fired, as far as the login may see them."""
    return sight.place.kind not in {"relay", "worker", "system"} and fires.is_any(sight.connection)


def _living(process: tasks.LiveProcess, timeout: float, late_seconds: float) -> Finding:
    name = f"{process.kind} {process.host}/{process.pid}"
    if process.silent_seconds > timeout:
        return Finding(name, "warning", f"silent for {duration(process.silent_seconds)}: gone, or cut off")
    late = {loop: seconds for loop, seconds in sorted(process.loops_late.items()) if seconds > late_seconds}
    heard = f"heard {duration(process.silent_seconds)} ago"
    if late:
        loops = ", ".join(f"{loop} is late by {duration(seconds)}" for loop, seconds in late.items())
        return Finding(name, "wrong", f"{heard}, but {loops}: look at its log, and restart it")
    return Finding(name, "ok", f"{heard}, {len(process.loops_late)} loops in time")


@check("listen", finds="a relay does not hear NOTIFY")
def listen(sight: Sight) -> Iterator[Finding]:
    """Relays hear NOTIFY, as their own round trips say."""
    timeout, database = sight.settings.relay.process_timeout, sight.settings.database
    found = tasks.processes(sight.connection)
    relays = [process for process in found if process.kind == "relay" and process.silent_seconds <= timeout]
    deaf = [process for process in relays if process.hears_notify is False]
    if deaf and not (database.is_pooled and database.direct_url is None):
        detail = f"{len(deaf)} of {len(relays)} relays hear nothing and poll: set GREENROOM_DATABASE_DIRECT_URL"
        yield Finding("listen", "wrong", detail)
    elif relays:
        yield Finding("listen", "ok", "relays poll" if deaf else "relays are rung")


@check("queues", finds="tasks are due that nobody serves or that wait for long, are held, or stand in a paused queue")
def queues(sight: Sight) -> Iterator[Finding]:
    """What waits is served, and not for too long."""
    settings = sight.settings
    for row in tasks.queues(sight.connection, process_timeout=settings.relay.process_timeout):
        yield from _queue(row, settings.alerts.stalled_seconds)


def _queue(row: tasks.QueueRow, stalled_seconds: float) -> Iterator[Finding]:
    name = f"queue {row.name}"
    oldest = f"{row.waiting} wait, the oldest for {duration(row.oldest_seconds)}"
    if row.held:
        yield Finding(name, "warning", f"{row.held} tasks are held: `greenroom tasks list --held` says why")
    if row.paused_at is not None:
        yield Finding(name, "warning", f"paused, {row.waiting} wait: `greenroom queues resume {row.name}`")
    elif row.waiting and not row.workers:
        yield Finding(name, "wrong", f"{oldest}, and no worker serves it: start one with `greenroom up` or `worker`")
    elif row.waiting and row.oldest_seconds > stalled_seconds:
        yield Finding(name, "warning", f"{oldest}: more workers would help")
    else:
        yield Finding(name, "ok", oldest if row.waiting else "nothing waits")


@check("schedules", finds="a schedule is overdue, or its last fire was refused")
def recurring(sight: Sight) -> Iterator[Finding]:
    """Schedules are fired when they are due, and their tasks are taken."""
    overdue = sight.settings.scheduler.misfire_seconds
    found = fires.troubled(sight.connection, overdue)
    for schedule in found:
        name = f"schedule {schedule.name}"
        if schedule.overdue_seconds > overdue:
            detail = f"due for {duration(schedule.overdue_seconds)} and not fired: see whether a scheduler lives"
            yield Finding(name, "wrong", detail)
        if schedule.refusal is not None:
            detail = f"its last fire was refused ({schedule.refusal}): edit or remove it (`greenroom schedules`)"
            yield Finding(name, "warning", detail)
    if not found:
        yield Finding("schedules", "ok", "none is overdue, none was refused")


@check("retention", finds="a run of retention would take more than its policy's share, and asks")
def asked(sight: Sight) -> Iterator[Finding]:
    """No run of retention waits for an operator."""
    found = retention_runs.asking(sight.connection)
    for run in found:
        detail = (
            f"asks for {duration(run.seconds)}: it would take {run.rows_planned} of {run.rows_total} rows of "
            f"{run.table}; see `greenroom retention plan {run.policy}`, then `greenroom retention run {run.policy} "
            "--confirm`, or change the policy"
        )
        yield Finding(f"policy {run.policy}", "warning", detail)
    if not found:
        yield Finding("retention", "ok", "no run asks")


@check("providers", finds="a provider refused, and what goes by its key waits")
def refused(sight: Sight) -> Iterator[Finding]:
    """No provider has refused: what goes by its key would wait."""
    paused = [row for row in limits.limits(sight.connection) if row.paused_until is not None]
    for row in paused:
        until = f"{row.paused_until:%Y-%m-%d %H:%M:%S %Z}"
        yield Finding(f"key {row.name}", "warning", f"its provider refused: nothing of it is claimed until {until}")
    if not paused:
        yield Finding("providers", "ok", "none has refused")


@check("alerts", finds="an [alert](alerts.md) is raised")
def raised(sight: Sight) -> Iterator[Finding]:
    """No alert is raised; the relays that live decide (docs/alerts.md)."""
    found = alerts.raised(sight.connection)
    yield from map(_alert, found)
    if not found:
        yield Finding("alerts", "ok", "none is raised")


def _alert(alert: alerts.Alert) -> Finding:
    facts = ", ".join(f"{name} {value}" for name, value in sorted(alert.facts.items()))
    told = "" if alert.is_told else "; no webhook was told"
    return Finding(f"alert {alert.kind}", "warning", f"for {duration(alert.seconds)}: {facts}{told}")


@check("files", finds="the last check of the storage found files that no row owns, or rows whose file is missing")
def stored(sight: Sight) -> Iterator[Finding]:
    """Storage and rows agreed when they were last compared."""
    if (last := files.last_check(sight.connection)) is None:
        yield Finding("files", "ok", "not compared yet: `greenroom retention orphans` does")
        return
    found, age = last
    said = f"{found['objects']:,} files were compared with their rows {duration(age)} ago"
    missing, orphaned = found["missing"], found["orphans"]
    if missing:
        advice = "bring them back from a backup, or delete the rows; `greenroom retention orphans` lists them"
        yield Finding("files", "warning", f"{said}: {missing:,} are missing: {advice}")
    if orphaned:
        advice = "`greenroom retention orphans` lists them, and removes them with --remove"
        told = f"{said}: {orphaned:,} ({size(found['orphan_bytes'])}) are of no row: {advice}"
        yield Finding("files", "warning", told)
    if not missing and not orphaned:
        yield Finding("files", "ok", said)


@check("mailboxes", finds="polls of a mailbox fail again and again, or none was made for long though it is not paused")
def read(sight: Sight) -> Iterator[Finding]:
    """Mailboxes are read."""
    found = mailboxes.troubled(sight.connection, _FAILED_POLLS, _MOST_NAMED)
    for mailbox in found:
        if mailbox.failed_polls >= _FAILED_POLLS:
            advice = f"`greenroom mailboxes test {mailbox.id}` tries it, `pause` leaves it alone"
            detail = f"{mailbox.address}: {mailbox.failed_polls} polls failed: {mailbox.last_error}: {advice}"
        else:
            age = duration(mailbox.seconds)
            detail = f"{mailbox.address} was not polled for {age}: see whether a scheduler and a worker live"
        yield Finding("mailboxes", "warning", detail)
    if not found:
        yield Finding("mailboxes", "ok", "none fails")
