"""`greenroom schedules add`, `edit` and `preview`: what a schedule is to be, looked at before it is stored."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from console import output
from console.options import AsJson, Tenant
from console.runtime import Operation, operate
from console.schedule_view import View, show_upcoming, upcoming_facts, when_of
from console.values import moment_of, object_of, span_of
from core.errors import DuplicateError, ScheduleError, UnknownTaskTypeError, UsageError
from core.times import Fold, Gap
from db import health, schedules, tasks
from db.schedules import Missed, Overlap, ScheduleRow, ScheduleSpec

if TYPE_CHECKING:
    from scheduler.triggers import TriggerSpec

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
Payload = Annotated[str | None, typer.Option("--payload", help="JSON object, @FILE of one, or - for standard input.")]
CronText = Annotated[str | None, typer.Option("--cron", help="Five fields, six with seconds first, or @daily.")]
Every = Annotated[str | None, typer.Option("--every", help="An interval: 90s, 30min, 2h or 1d.")]
At = Annotated[str | None, typer.Option("--at", help="Once: a time with zone, or seconds from now.")]
Zone = Annotated[str | None, typer.Option("--zone", help="Whose clock a cron expression is read on: Europe/Berlin.")]
OfGap = Annotated[Gap | None, typer.Option("--gap", help="What becomes of times that daylight saving leaves out.")]
OfFold = Annotated[Fold | None, typer.Option("--fold", help="Which of times that daylight saving gives twice.")]
From = Annotated[str | None, typer.Option("--from", help="No fire before then; as --at.")]
Until = Annotated[str | None, typer.Option("--until", help="No fire after then; as --at.")]
Jitter = Annotated[str | None, typer.Option("--jitter", help="Each task is due up to so much later; as --every.")]
OfMissed = Annotated[Missed | None, typer.Option("--missed", help="Which fires to make up for that nobody fired.")]
MissedLimit = Annotated[int | None, typer.Option("--missed-limit", min=1, max=1000, help="So many, for --missed all.")]
OfOverlap = Annotated[Overlap | None, typer.Option("--overlap", help="What to do while its last task lives.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Another queue than the type's own.")]
Priority = Annotated[int | None, typer.Option("--priority", min=-100, max=100, help="Higher goes first.")]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check it and show its next fires, and store nothing.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="Show so many of the next fires.")]
_EMPTY: dict[str, tuple[str, Any]] = {
    "queue": ("queue", None), "priority": ("priority", None), "from": ("starts_at", None), "until": ("ends_at", None),
    "jitter": ("jitter", timedelta(0)), "description": ("description", None),
}  # fmt: skip
_TRIGGERS = ("cron", "every", "at")
_READ: dict[str, Callable[[str], Any]] = {
    "payload": object_of, "every": span_of, "at": moment_of, "starts_at": moment_of, "ends_at": moment_of,
    "jitter": span_of,
}  # fmt: skip


def add(
    name: Name,
    task_type: Annotated[str, typer.Argument(metavar="TYPE", help="A task type, such as partitions.maintain.")],
    payload: Payload = "{}", cron: CronText = None, every: Every = None, at: At = None, zone: Zone = None,
    gap: OfGap = None, fold: OfFold = None, starts: From = None, until: Until = None, jitter: Jitter = None,
    missed: OfMissed = None, missed_limit: MissedLimit = None, overlap: OfOverlap = None, queue: Queue = None,
    priority: Priority = None, tenant: Tenant = None, description: Description = None,
    dry_run: DryRun = False, count: Count = 5, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add a schedule, by exactly one of --cron, --every and --at; schedulers that run see it within seconds."""
    given = _given(
        payload=payload, cron=cron, every=every, at=at, zone=zone, gap=gap, fold=fold, starts_at=starts, ends_at=until,
        jitter=jitter, missed=missed, missed_limit=missed_limit, overlap=overlap, queue=queue, priority=priority,
        description=description,
    )  # fmt: skip
    spec = ScheduleSpec(name=name, task_type=task_type, **given)
    _check(spec)
    with operate() as operation:
        spec = replace(spec, tenant_id=_tenant_of(operation, task_type, tenant, None))
        _store(operation, partial(_added, operation, spec), "added", count, dry_run=dry_run, as_json=as_json)


def edit(
    name: Name,
    task_type: Annotated[str | None, typer.Option("--type", help="Another task type.")] = None,
    payload: Payload = None, cron: CronText = None, every: Every = None, at: At = None, zone: Zone = None,
    gap: OfGap = None, fold: OfFold = None, starts: From = None, until: Until = None, jitter: Jitter = None,
    missed: OfMissed = None, missed_limit: MissedLimit = None, overlap: OfOverlap = None, queue: Queue = None,
    priority: Priority = None, tenant: Tenant = None, description: Description = None,
    clear: Annotated[list[str] | None, typer.Option("--clear", help=f"Empty {', '.join(_EMPTY)}; repeatable.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Be again what the code declares, removed or not.")] = False,
    dry_run: DryRun = False, count: Count = 5, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change what is given of a schedule; what it has enqueued goes on as it is.

    Other times count from now on. An edit of what the code declares is kept over `db migrate`, until --reset.
    """
    given = _given(
        task_type=task_type, payload=payload, cron=cron, every=every, at=at, zone=zone, gap=gap, fold=fold,
        starts_at=starts, ends_at=until, jitter=jitter, missed=missed, missed_limit=missed_limit, overlap=overlap,
        queue=queue, priority=priority, description=description,
    )  # fmt: skip
    given |= _cleared(clear or [], given)
    if reset == bool(given or tenant):
        raise UsageError("say what to change, or --reset alone: `greenroom schedules edit --help`")
    with operate() as operation:
        resetting = partial(schedules.reset, operation.connection, name)
        act = resetting if reset else _edit_of(operation, name, given, tenant)
        _store(operation, act, "reset" if reset else "edited", count, dry_run=dry_run, as_json=as_json)


def preview(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A schedule; or give its times.")] = None,
    cron: CronText = None, every: Every = None, at: At = None, zone: Zone = None, gap: OfGap = None,
    fold: OfFold = None, starts: From = None, until: Until = None, count: Count = 10, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show when a schedule fires next, or one of these times would; and what daylight saving does to that."""
    given = _given(cron=cron, every=every, at=at, zone=zone, gap=gap, fold=fold, starts_at=starts, ends_at=until)
    if (name is None) == (not given):
        raise UsageError(
            "name a schedule, or give one of --cron, --every and --at: `edit --dry-run` shows both at once"
        )
    if name is None:
        from scheduler.triggers import TriggerSpec, describe

        now = datetime.now(UTC)
        spec = TriggerSpec(**given, anchor=now)
        _show_coming(describe(spec), spec, now, count, as_json=as_json)
        return
    with operate() as operation:
        found, now = schedules.named(operation.connection, name), health.now(operation.connection)
    from scheduler.firing import times_of

    spec = times_of(found, now)
    _show_coming(when_of(found), spec, now, count, as_json=as_json)
    if found.paused_at or found.removed_at:
        output.note(f"{name} is {'removed' if found.removed_at else 'paused'}: it does none of this as it stands")


def _given(**texts: Any) -> dict[str, Any]:
    """Return what was given of a schedule, read; another way to say when takes the place of the one before."""
    found = {name: _READ[name](text) if name in _READ else text for name, text in texts.items() if text is not None}
    ways = [name for name in _TRIGGERS if name in found]
    if len(ways) > 1:
        raise UsageError(f"--{ways[0]} and --{ways[1]} both say when: give one of --cron, --every and --at")
    return found | {name: None for name in _TRIGGERS if ways and name not in ways}


def _cleared(names: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    if unknown := [name for name in names if name not in _EMPTY]:
        raise UsageError(f"--clear empties {', '.join(_EMPTY)}, not {unknown[0]!r}")
    if twice := [name for name in names if _EMPTY[name][0] in given]:
        raise UsageError(f"--clear {twice[0]} and --{twice[0]} contradict each other: give one of them")
    return dict(_EMPTY[name] for name in names)


def _check(spec: ScheduleSpec) -> None:
    """Raise for times and policies that make no sense, whatever the database has."""
    from scheduler.firing import trigger_spec
    from scheduler.triggers import build_trigger

    if all(getattr(spec, name) is None for name in _TRIGGERS):
        raise UsageError("say when it fires: give one of --cron, --every and --at")
    spec.check()
    build_trigger(trigger_spec(spec, datetime.now(UTC)))


def _tenant_of(operation: Operation, task_type: str, slug: str | None, known: ScheduleRow | None) -> UUID | None:
    """Return whose schedule of a type it is: the tenant that is named, or else had it, or else is the command's own."""
    scope = tasks.scope_of(operation.connection, task_type)
    if scope is None:
        raise UnknownTaskTypeError(task_type, tuple(tasks.known_types(operation.connection)))
    if slug is None and scope == "system":
        return None
    if slug is None and known is not None and known.tenant_id is not None:
        return known.tenant_id
    return operation.tenant_id(slug)


def _added(operation: Operation, spec: ScheduleSpec) -> ScheduleRow:
    try:
        return schedules.add(operation.connection, spec)
    except DuplicateError:
        raise UsageError(f"there is a schedule {spec.name!r} already: `greenroom schedules edit` changes it") from None


def _edit_of(operation: Operation, name: str, changes: dict[str, Any], tenant: str | None) -> Callable[[], ScheduleRow]:
    known = schedules.named(operation.connection, name)
    _check(replace(known.spec(), **changes))
    if tenant or "task_type" in changes:
        task_type = changes.get("task_type", known.task_type)
        changes = changes | {"tenant_id": _tenant_of(operation, task_type, tenant, known)}
    return partial(schedules.edit, operation.connection, name, **changes)


def _store(
    operation: Operation, act: Callable[[], ScheduleRow], done: str, count: int, *, dry_run: bool, as_json: bool
) -> None:
    """Do a deed, or try it, and show what comes of it; nothing is stored that never fires."""
    from scheduler.firing import times_of
    from scheduler.preview import upcoming

    connection = operation.connection
    with connection.transaction(force_rollback=dry_run):
        row = act()
        view = View(connection, [row])
        spec = times_of(row, view.now)
        if row.next_fire_at is not None and not upcoming(spec, row.settled_at, 1):
            raise ScheduleError(f"schedule {row.name!r} never fires: all its times are past")
    coming = upcoming(spec, view.now, count)
    if as_json:
        output.show_json({"schedule": view.facts(row), "next": upcoming_facts(coming), "is_stored": not dry_run})
        return
    output.show_line(f"{row.name} {'would be ' if dry_run else ''}{done}: {when_of(row)}")
    show_upcoming(coming, view.now)
    if row.paused_at:
        output.note(f"{row.name} is paused: it does none of this before `greenroom schedules resume`")
    if dry_run:
        output.note("nothing was stored: leave --dry-run out for that")


def _show_coming(when: str, spec: "TriggerSpec", now: datetime, count: int, *, as_json: bool) -> None:
    from scheduler.preview import upcoming

    coming = upcoming(spec, now, count)
    if as_json:
        output.show_json({"when": when, "next": upcoming_facts(coming)})
        return
    output.show_line(when)
    show_upcoming(coming, now)
