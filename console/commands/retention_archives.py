"""`greenroom retention archives` and `restore`: what stands in storage, and rows of it brought back to their table."""

import re
from contextlib import suppress
from dataclasses import asdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args
from uuid import UUID

import typer
from pydantic import ValidationError

from console import output
from console.commands.enqueue import followed
from console.options import AsJson, task_id
from console.runtime import Operation, operate
from console.values import span_of
from core.errors import GreenroomError, UsageError
from db import audit, restores, tenants
from db.connection import tenant_transaction
from db.forgetting import Kind, Subject
from db.restores import Archive

if TYPE_CHECKING:
    from pipelines.retention.restoring.task import RestoreArchive

OfMonth = Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="Only that month.")]
_KEEP = re.compile(r"([0-9]{1,12}) ?(hour|day|week)s?")


def archives(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Only of that table (schema.name).")] = None,
    month: OfMonth = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only with rows of that tenant, by slug or id.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="KIND:ID", help="Only with rows of a user, person, client …")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read them back and compare checksums and counts.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the parts of archives: by table and month, how many rows each holds, and what became of them there."""
    if tenant is not None and subject is not None:
        raise UsageError("--tenant is a subject, too: give one of --tenant and --subject")
    with operate() as operation:
        whose = _subject(subject) if tenant is None else Subject("tenant", _tenant(operation, tenant))
        found = restores.list_archives(operation.connection, table=table, month=_month(month), subject=whose)
        problems = _problems(operation, found) if verify else {}
    if as_json:
        output.show_json({"archives": [_said(each, problems) for each in found]})
    else:
        _show(found)
        if verify and not problems:
            output.note(f"{len(found)} parts are as they were written")
    if problems:
        first = next(iter(problems.values()))[0]
        raise GreenroomError(f"{len(problems)} of {len(found)} parts are damaged: {first}")


def restore(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="With its schema, such as assistants.messages.")],
    month: OfMonth = None,
    until: Annotated[str | None, typer.Option("--to", metavar="YYYY-MM", help="From --month up to that one.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only rows of that tenant, by slug or id.")] = None,
    row: Annotated[
        str | None, typer.Option("--row", metavar="ID", help="One row, with what went along with it.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All rows of all months.")] = False,
    keep: Annotated[str, typer.Option("--keep", help="How long runs of retention let them be.")] = "30 days",
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A column or table to leave out; repeatable.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow the task to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Bring archived rows back to their table, as they were; what is there already is left as it is."""
    from pipelines.retention.runs import RETENTION_QUEUE

    since, last = _month(month), _month(until)
    _require_choice(table, is_all, [month, until, tenant, row])
    if since is not None and last is not None and last < since:
        raise UsageError(f"--to {until} is before --month {month}: name the earlier one first")
    with operate(works=wait) as operation:
        asked = _payload(
            table=table, since=since, until=last or since, row_id=row, keep=_span(keep), without=without or [],
            tenant_id=None if tenant is None else _tenant(operation, tenant),
        )  # fmt: skip
        if wait:
            operation.require_worker(RETENTION_QUEUE)
        task = _enqueue(operation, asked)
        if not wait:
            output.show_json({"task_id": task}) if as_json else output.show_line(f"the task {task} restores {table}")
            return
        end = followed(operation, task, as_json=as_json)
    if as_json:
        output.show_json(asdict(end))
    if end.status != "done":
        raise GreenroomError(f"not all of {table} is restored: {end.error or end.status}")
    if not as_json:
        _show_end(table, end.result or {})


def _require_choice(table: str, is_all: bool, chosen: list[str | None]) -> None:
    """Raise UsageError for a call that says neither which rows nor that all are meant, or both."""
    if is_all == any(each is not None for each in chosen):
        raise UsageError(
            f"say which rows of {table} are to come back: --month, --tenant or --row, or --all for all of them"
        )


def _payload(**asked: Any) -> "RestoreArchive":
    from pipelines.retention.restoring.task import RestoreArchive

    try:
        return RestoreArchive(**asked)
    except ValidationError as error:
        [first, *_] = error.errors()
        raise UsageError(f"{'.'.join(map(str, first['loc'])) or 'the call'}: {first['msg']}") from None


def _enqueue(operation: Operation, asked: "RestoreArchive") -> UUID:
    """Enqueue a restore; the audit has who asked for it."""
    from pipelines.enqueue import enqueue

    with tenant_transaction(operation.connection, None) as connection:
        made = enqueue(connection, asked)
        told = f"restore of {asked.table} requested by an operator"
        audit.record(connection, "archive.restore_requested", told, audit.Resource("task", made))
    return made


def _month(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise UsageError(f"{text!r} is no month: write 2026-01") from None


def _span(text: str) -> timedelta:
    given = _KEEP.fullmatch(text)
    with suppress(OverflowError):
        return timedelta(**{f"{given[2]}s": int(given[1])}) if given else span_of(text)
    raise UsageError(f"{text!r} is too long a time to keep anything: write '90 days'")


def _tenant(operation: Operation, name: str) -> UUID:
    return tenants.find(operation.connection, name).id


def _subject(text: str | None) -> Subject | None:
    if text is None:
        return None
    kind, _, subject = text.partition(":")
    if kind not in get_args(Kind):
        raise UsageError(f"{text!r} is no subject: write {', '.join(get_args(Kind)[:-1])} or {get_args(Kind)[-1]}:ID")
    return Subject(cast("Kind", kind), task_id(subject))


def _problems(operation: Operation, found: list[Archive]) -> dict[UUID, list[str]]:
    """Return what is wrong with parts that should stand in storage."""
    from pipelines.retention.archive.store import archive_store
    from pipelines.retention.restoring.verifying import problems_of

    store = archive_store(operation.settings)
    standing = [each for each in found if each.status in ("verified", "emptied")]
    return {each.id: wrong for each in standing if (wrong := problems_of(each, store))}


def _said(each: Archive, problems: dict[UUID, list[str]]) -> dict[str, Any]:
    facts = asdict(each) | {"month": f"{each.month:%Y-%m}"}
    return facts | ({"problems": problems[each.id]} if each.id in problems else {})


def _show(found: list[Archive]) -> None:
    columns = ("table", "month", "#part", "status", "#rows", "#size", "policy", "written", "restored until")
    rows = [
        (
            each.table, f"{each.month:%Y-%m}", each.part, each.status, each.rows, output.size(each.bytes), each.policy,
            f"{each.created_at:%Y-%m-%d}", f"{each.restored_until:%Y-%m-%d}" if each.restored_until else "",
        )
        for each in found
    ]  # fmt: skip
    output.show_table(columns, rows, empty="no archives")


def _show_end(table: str, result: dict[str, Any]) -> None:
    output.show_line(
        f"{result['restored']:,} rows of {table} and what went along restored, {result['links']:,} references set"
    )
    if result["there"]:
        output.note(f"{result['there']:,} were there already")
    if result["different"]:
        output.note(f"{result['different']:,} are there with other content, and were left as they are")
    if result["refused"]:
        output.show_table(("not restored", "#rows"), sorted(result["refused"].items()))
