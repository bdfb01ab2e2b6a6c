"""`greenroom tenants`: who there is, who is suspended, and the end of one with all that it has."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from console import output
from console.options import AsJson
from console.runtime import Operation, operate
from console.watching import watch
from core.errors import GreenroomError, UsageError
from db import tenants
from db.tenants import Plan, Status

app = typer.Typer(help="Tenants: list, show, add, suspend, activate, delete.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="TENANT", help="Its slug or id.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the tenants; one that is deleted stands there until it is erased."""
    with operate() as operation:
        found = tenants.list_tenants(operation.connection)
    if as_json:
        output.show_json({"tenants": [asdict(each) for each in found]})
        return
    columns = ("tenant", "name", "status", "plan", "since", "id")
    output.show_table(
        columns, [(t.slug, t.name, t.status, t.plan_type, f"{t.created_at:%Y-%m-%d}", t.id) for t in found]
    )


@app.command()
def show(tenant: Named, as_json: AsJson = False) -> None:
    """Show one tenant: its limits, its tasks, and the hold that would forbid its erasure."""
    with operate() as operation:
        found = tenants.show(operation.connection, tenants.find(operation.connection, tenant))
    if as_json:
        output.show_json(asdict(found))
    else:
        output.show_fields(list(asdict(found).items()))


@app.command()
def add(
    tenant: Annotated[str, typer.Argument(metavar="SLUG", help="Small letters, digits and single hyphens.")],
    name: Annotated[str | None, typer.Option("--name", help="What people call it; unset: its slug.")] = None,
    plan: Annotated[Plan, typer.Option("--plan", help="What it pays for.")] = "free",
    contact_name: Annotated[str | None, typer.Option("--contact-name", help="Whom to ask.")] = None,
    contact_email: Annotated[str | None, typer.Option("--contact-email", help="How to ask.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a tenant; commands work for it by --tenant or GREENROOM_TENANT."""
    with operate() as operation:
        made = tenants.add(
            operation.connection,
            tenant,
            name=name,
            plan_type=plan,
            contact_name=contact_name,
            contact_email=contact_email,
        )
    if as_json:
        output.show_json({"id": made, "slug": tenant})
    else:
        output.show_line(f"added the tenant {tenant}: {made}")


@app.command()
def suspend(tenant: Named, as_json: AsJson = False) -> None:
    """Hold a tenant's tasks and close its keys and sessions; what runs goes on to its end."""
    _set(tenant, "suspended", as_json=as_json)


@app.command()
def activate(tenant: Named, as_json: AsJson = False) -> None:
    """Let a suspended tenant's tasks go, and open its keys and sessions."""
    _set(tenant, "active", as_json=as_json)


@app.command()
def delete(
    tenant: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: nothing of the tenant comes back.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow its erasure to the end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant: its keys close at once, and a task erases all that it has, files and history included.

    Again after a failure, such as a hold that was lifted since, it goes on. Its slug is free at once.
    """
    from pipelines.tenants.erasure import TENANTS_QUEUE

    with operate(works=wait) as operation:
        found = tenants.find(operation.connection, tenant)
        if not yes:
            raise UsageError(f"this erases all that the tenant {found.slug} has, for good: say --yes")
        if wait:
            operation.require_worker(TENANTS_QUEUE)
        task_id = _erase(operation, found)
        ended = watch(operation, task_id, as_json=as_json) if wait else None
    if ended is not None and ended.status != "done":
        raise GreenroomError(f"the tenant is not erased: {ended.last_error or ended.status}")
    if as_json and ended is None:
        output.show_json({"id": found.id, "slug": found.slug, "task_id": task_id})
    elif not as_json:
        output.show_line(f"{found.slug} is erased" if ended else f"the task {task_id} erases {found.slug}")


def _erase(operation: Operation, tenant: tenants.Tenant) -> UUID:
    """Delete a tenant; return the task that erases it, which the database enqueues with the status."""
    from pipelines.enqueue import enqueue
    from pipelines.tenants.erasure import EraseTenant, unique_key

    with operation.connection.transaction():
        tenants.set_status(operation.connection, tenant, "deleted")
        return enqueue(operation.connection, EraseTenant(tenant_id=tenant.id), unique_key=unique_key(tenant.id))


def _set(tenant: str, status: Status, *, as_json: bool) -> None:
    with operate() as operation:
        found = tenants.find(operation.connection, tenant)
        is_change = tenants.set_status(operation.connection, found, status)
        shown = tenants.show(operation.connection, tenants.find(operation.connection, str(found.id)))
    if as_json:
        output.show_json(asdict(shown))
    else:
        held = f", {shown.held_tasks} of its {shown.tasks} tasks held" if shown.tasks else ""
        output.show_line(f"{found.slug} is {'' if is_change else 'already '}{status}{held}")
