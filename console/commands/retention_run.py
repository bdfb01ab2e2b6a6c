"""`greenroom retention plan` and `run`: what policies would let go now, and letting it go."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer

from console import output
from console.bars import sparkline
from console.commands.enqueue import followed
from console.options import AsJson, Timeout
from console.runtime import Operation, operate
from core.errors import GreenroomError, NotFoundError, UsageError
from db import audit, retention, retention_plans
from db.connection import tenant_transaction
from db.retention import Policy
from db.retention_plans import Month, Plan

_WIDTH = 24


def plan(
    wanted: Annotated[
        str | None, typer.Argument(metavar="[TABLE|POLICY]", help="A table (schema.name) or a policy; unset: all.")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only rows of the tenant of that slug.")] = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Show what would go now, by policy, tenant and month, with what goes along, and what holds keep.

    Nothing is changed. Of a policy that is off nothing goes.
    """
    with operate() as operation:
        tenant_id = operation.tenant_id(tenant) if tenant else None
        plans = retention_plans.plan(operation.connection, wanted, tenant_id, timeout)
    if wanted is not None and not plans:
        raise NotFoundError(f"no policy is named {wanted!r} or speaks of such a table: see `greenroom retention show`")
    if as_json:
        output.show_json({"plans": [_said(each) for each in plans]})
        return
    _show(plans)
    if wanted is not None:
        _show_months(plans)
    for each in plans:
        if not each.is_enabled:
            output.note(f"{each.policy} is off")
        elif each.asks and tenant_id is None:
            output.note(
                f"{each.policy} would ask first: {each.rows:,} of {each.total:,} rows, more than {each.share:.0%}; "
                f"`greenroom retention run {each.policy} --confirm` lets them go"
            )


def run(
    policies: Annotated[
        list[str] | None, typer.Argument(metavar="[POLICY...]", help="Their names; unset: all.")
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Let runs go on that ask, and ask for nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow the task to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Let go what policies take, beside the work: a task does it, which is followed to its end."""
    from pipelines.retention.runs import RETENTION_QUEUE

    with operate(works=wait) as operation:
        for name in policies or ():
            _require_on(retention.named(operation.connection, name))
        if wait:
            operation.require_worker(RETENTION_QUEUE)
        task_id = _enqueue(operation, tuple(policies or ()), is_confirmed=confirm)
        end = followed(operation, task_id, as_json=as_json) if wait else None
    if end is None:
        _show_task(task_id, as_json=as_json)
        return
    if as_json:
        output.show_json(asdict(end))
    if end.status != "done":
        raise GreenroomError(f"not all that policies take is let go: {end.error or end.status}")
    if not as_json:
        _show_ends(end.result or {})


# ---------------------------------------------------------------------------------------------------- the plan


def _said(each: Plan) -> dict[str, Any]:
    return asdict(each) | {"rows": each.rows, "bytes": each.bytes, "held": each.held, "asks": each.asks}


def _show(plans: Sequence[Plan]) -> None:
    columns = ("policy", "table", "action", "#rows", "#size", "#held", "from", "by month", "to")
    output.show_table(columns, [_row(each) for each in plans], empty="no policy is on")
    along = [(each.policy, d.table, d.rows, d.links) for each in plans for d in each.dependents]
    if along:
        output.show_table(("policy", "and in", "#rows go along", "#references become NULL"), along)
    rows, size = sum(each.rows for each in plans), sum(each.bytes for each in plans)
    output.show_line(f"{rows:,} rows would go ({output.size(size)}), {sum(each.held for each in plans):,} are held")


def _row(each: Plan) -> tuple[Any, ...]:
    counts = _by_month(each.months)
    first, last = (min(counts), max(counts)) if counts else ("", "")
    bars = sparkline([counts.get(month) for month in _between(first, last)], _WIDTH) if counts else ""
    return (
        each.policy, each.table, each.action, each.rows, output.size(each.bytes), each.held, first, bars, last,
    )  # fmt: skip


def _by_month(months: Sequence[Month]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for month in months:
        if month.rows:
            counts[month.month] = counts.get(month.month, 0) + month.rows
    return counts


def _between(first: str, last: str) -> list[str]:
    """Return the months from one to another, both counted in."""
    start, end = (int(year) * 12 + int(month) - 1 for year, _, month in (first.partition("-"), last.partition("-")))
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(start, end + 1)]


def _show_months(plans: Sequence[Plan]) -> None:
    rows = [
        (each.policy, month.tenant or month.tenant_id, month.month, month.rows, output.size(month.bytes), month.held)
        for each in plans
        for month in each.months
    ]
    if rows:
        output.show_table(("policy", "tenant", "month", "#rows", "#size", "#held"), rows)


# ---------------------------------------------------------------------------------------------------- the run


def _require_on(policy: Policy) -> None:
    """Raise UsageError for a policy that takes nothing."""
    if policy.is_held:
        raise UsageError(f"{policy.name} is a hold: it keeps rows and takes none")
    if not policy.is_enabled:
        raise UsageError(f"{policy.name} is off: `greenroom retention enable {policy.name}` switches it on")


def _enqueue(operation: Operation, policies: tuple[str, ...], *, is_confirmed: bool) -> UUID:
    """Enqueue the runs; the audit has who asked for them, and whether that confirms."""
    from pipelines.enqueue import enqueue
    from pipelines.retention.enforce import EnforceRetention

    with tenant_transaction(operation.connection, None) as connection:
        task_id = enqueue(connection, EnforceRetention(policies=policies, confirm=is_confirmed))
        audit.record(
            connection,
            "retention.requested",
            "retention requested by an operator",
            audit.Resource("task", task_id),
            metadata={"policies": list(policies), "is_confirmed": is_confirmed},
        )
    return task_id


def _show_task(task_id: UUID, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"task_id": task_id})
        return
    output.show_line(f"the task {task_id} lets go what policies take")
    output.note(f"`greenroom tasks show {task_id} --watch` follows it, `greenroom tasks cancel {task_id}` stops it")


def _show_ends(result: dict[str, Any]) -> None:
    ends = result["runs"]
    columns = ("policy", "table", "status", "#rows gone", "#archived", "#along", "#held", "#size", "months dropped")
    output.show_table(columns, [_end(end) for end in ends], empty="no policy is on")
    for end in ends:
        if end["status"] == "asking":
            _show_question(end["policy"], end["rows_planned"], end["rows_total"])
    for policy in sorted(set(result["asking"]) - {end["policy"] for end in ends}):
        output.note(f"{policy} asks: look with `greenroom retention plan {policy}`, and say `run {policy} --confirm`")


def _show_question(policy: str, planned: int, total: int) -> None:
    output.note(
        f"{policy} asks: it would take {planned:,} of {total:,} rows; `greenroom retention run {policy} --confirm` "
        "lets them go"
    )


def _end(end: dict[str, Any]) -> tuple[Any, ...]:
    along = sum(counts.get("rows", 0) for counts in end.get("dependents", {}).values())
    counts = (end.get("rows_deleted", 0), end.get("rows_archived", 0), along, end.get("rows_held", 0))
    dropped = ", ".join(end.get("partitions_dropped", []))
    return (end["policy"], end["table"], end["status"], *counts, output.size(end.get("byte_count", 0)), dropped)
