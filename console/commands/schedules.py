"""`greenroom schedules`: what recurs, when, and what came of it; all of it while schedulers run."""

from itertools import islice
from typing import Annotated

import typer

from console import output
from console.commands.enqueue import await_end
from console.commands.schedule_edits import Name, add, edit, preview
from console.options import AsJson, Limit, Tenant, Timeout
from console.runtime import Operation, operate
from console.schedule_view import View, fire_cells, fire_facts
from console.values import moment_of
from core.errors import ScheduleError
from db import fires, schedules
from db.connection import Connection
from db.schedules import ScheduleRow

app = typer.Typer(
    help="Schedules: list, show, add, edit, pause, resume, run, preview, history, remove.", no_args_is_help=True
)
_MOST_COUNTED = 1000


@app.command("list")
def list_(
    removed: Annotated[bool, typer.Option("--removed", help="Those of the code that were removed, too.")] = False,
    limit: Limit = 100,
    after: Annotated[str, typer.Option("--after", metavar="NAME", help="The next page: what comes after it.")] = "",
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List schedules by name: when they fire, next and last, and how they stand."""
    with operate() as operation:
        tenant_id = operation.tenant_id(tenant) if tenant else None
        rows = schedules.list_schedules(
            operation.connection, limit=limit, after=after, tenant_id=tenant_id, with_removed=removed
        )
        view = View(operation.connection, rows)
    following = rows[-1].name if len(rows) == limit else None
    if as_json:
        output.show_json({"schedules": [view.facts(row) for row in rows], "next": following})
        return
    columns = ("schedule", "task type", "tenant", "when", "next", "last", "state")
    output.show_table(columns, view.cells(), empty="no schedules")
    if following:
        output.note(f"more: --after {following}")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show one schedule: what it enqueues, when, by which policies. Secret fields of its payload print as stars."""
    with operate() as operation:
        found = schedules.named(operation.connection, name)
        view = View(operation.connection, [found])
    if as_json:
        output.show_json(view.facts(found))
    else:
        output.show_fields(view.fields(found))


app.command()(add)
app.command()(edit)


@app.command()
def pause(name: Name, as_json: AsJson = False) -> None:
    """Fire a schedule no more until it is resumed; what it has enqueued goes on."""
    with operate() as operation:
        is_change = schedules.pause(operation.connection, name)
        _say(operation, name, f"is {'' if is_change else 'already '}paused", as_json=as_json)


@app.command()
def resume(name: Name, as_json: AsJson = False) -> None:
    """Fire a paused schedule again, from now on: what came while it was paused is not made up for, by any policy."""
    with operate() as operation:
        connection = operation.connection
        with connection.transaction():
            before = schedules.named(operation.connection, name)
            is_change = schedules.resume(connection, name)
            passed = _passed(connection, before) if is_change else 0
        told = f"{passed} of its times" if passed < _MOST_COUNTED else f"{passed} of its times and more"
        missed = f": {told} came while it was paused, and are not made up for" if passed else ""
        _say(operation, name, f"is resumed{missed}" if is_change else "is not paused", as_json=as_json)


@app.command()
def run(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the result.")] = False,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Enqueue a schedule's task now, whatever its times and policies, paused or not; print the task's id."""
    from scheduler.firing import run_now

    with operate(works=wait) as operation:
        task_id = run_now(operation.connection, name)
        if wait:
            await_end(operation, task_id, timeout, as_json=as_json)
        elif as_json:
            output.show_json({"id": task_id})
        else:
            output.show_line(str(task_id))


app.command()(preview)


@app.command()
def history(
    name: Name,
    limit: Limit = 20,
    before: Annotated[str | None, typer.Option("--before", help="The next page: what comes before that time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a schedule's fires, newest first: the time that each is for, what came of it, how its task went."""
    page = None if before is None else moment_of(before)
    with operate() as operation:
        found = schedules.named(operation.connection, name)
        rows = fires.history(operation.connection, found.id, limit=limit, before=page)
    following = rows[-1].fire_at if len(rows) == limit else None
    if as_json:
        output.show_json({"fires": [fire_facts(row) for row in rows], "next": following})
        return
    from scheduler.zones import load_zone

    try:
        zone = load_zone(found.zone)
    except ScheduleError:
        zone = load_zone("UTC")
    columns = ("fire", "outcome", "task", "status", "#took", "note")
    output.show_table(columns, [fire_cells(row, row.fire_at.astimezone(zone)) for row in rows], empty="no fires yet")
    if following:
        output.note(f"more: --before {following.isoformat()}")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Remove a schedule and its history; one that the code declares stays away until `edit --reset`."""
    with operate() as operation:
        schedules.remove(operation.connection, name)
        is_kept = schedules.show(operation.connection, name) is not None
    if as_json:
        output.show_json({"name": name, "is_removed": True, "is_declared": is_kept})
    else:
        back = "; the code declares it, and `greenroom schedules edit --reset` brings it back" if is_kept else ""
        output.show_line(f"{name} is removed{back}")


def _say(operation: Operation, name: str, told: str, *, as_json: bool) -> None:
    if as_json:
        found = schedules.named(operation.connection, name)
        output.show_json(View(operation.connection, [found]).facts(found))
    else:
        output.show_line(f"{name} {told}")


def _passed(connection: Connection, paused: ScheduleRow) -> int:
    """Return how many times of a schedule that was paused came meanwhile, counted up to a thousand."""
    from scheduler.firing import trigger_spec
    from scheduler.triggers import build_trigger, fires_between

    try:
        trigger = build_trigger(trigger_spec(paused, paused.created_at))
    except ScheduleError:
        return 0
    return sum(1 for _ in islice(fires_between(trigger, paused.settled_at, schedules.now(connection)), _MOST_COUNTED))
