"""`greenroom retention`: for how long rows are kept, what becomes of them then, and what a hold keeps."""

import re
from typing import Annotated, Any
from uuid import UUID

import typer

from console import output
from console.commands import retention_archives, retention_files, retention_run
from console.options import AsJson
from console.retention_view import effective_facts, facts, show_list, show_policy, show_table
from console.runtime import Operation, operate
from core.errors import NotFoundError, RetentionError, UsageError
from db import retention, tenants
from db.retention import Cadence, Policy, PolicySpec

app = typer.Typer(help="Retention: policies, holds, plan, run, archives, restore, files.", no_args_is_help=True)
app.command()(retention_run.plan)
app.command()(retention_run.run)
app.command()(retention_files.orphans)
app.command()(retention_archives.archives)
app.command()(retention_archives.restore)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the policy.")]
Table = Annotated[str, typer.Option("--table", help="With its schema, such as assistants.messages.")]
Age = Annotated[str, typer.Option("--age", help="Rows older than this go: '12 hours', '30 days', '1 year'.")]
OfColumn = Annotated[str | None, typer.Option("--column", help="The time that rows age by.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows that have it; COLUMN= for none; repeatable."),
]
OfAction = Annotated[str, typer.Option("--action", help="delete, archive, roll-up or drop-partition.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Slug or id of the tenant; unset: of all.")]
Persona = Annotated[str | None, typer.Option("--persona", help="Id of a persona of the tenant; unset: of all.")]
OfCadence = Annotated[Cadence, typer.Option("--cadence", help="Which schedule runs it.")]
Share = Annotated[
    float, typer.Option("--share", min=0.001, max=1, help="A run of more of the table's rows asks first; 1: never.")
]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]
_ACTIONS = {"delete": "delete", "archive": "archive", "roll-up": "roll_up", "drop-partition": "drop_partition"}
_AGE = re.compile(r"\d{1,5} ?(hour|day|week|month|year)s?( \d{1,5} ?(hour|day|week|month|year)s?)*")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")


@app.command()
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[TABLE|POLICY]", help="A table with its schema, or a name.")
    ] = None,
    tenant: OfTenant = None,
    persona: Persona = None,
    as_json: AsJson = False,
) -> None:
    """Explain what becomes of a table's rows, or one policy; without a name, list all policies and holds."""
    with operate() as operation:
        tenant_id, persona_id = _whose(operation, tenant, persona)
        if name is None:
            listed = [
                each for each in retention.list_policies(operation.connection) if each.concerns(tenant_id, persona_id)
            ]
            _show_all(listed, as_json=as_json)
            return
        policy = _policy_or_none(operation, name)
        table = name if policy is None else policy.table
        found = retention.effective(operation.connection, table, tenant_id, persona_id)
    if as_json:
        output.show_json(
            effective_facts(found) if policy is None else facts(policy) | {"effective": effective_facts(found)}
        )
    elif policy is None:
        show_table(found)
    else:
        show_policy(policy, found)


@app.command()
def add(
    name: Name, table: Table, age: Age, column: OfColumn = None, where: Where = None, action: OfAction = "delete",
    tenant: OfTenant = None, persona: Persona = None, cadence: OfCadence = "daily", share: Share = 0.5,
    description: Description = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Add a policy, which the next run of its cadence goes by."""
    with operate() as operation:
        tenant_id, persona_id = _whose(operation, tenant, persona)
        spec = PolicySpec(
            name=name, table=table, age=_age_of(age),
            age_column=column or retention.age_column(operation.connection, table),
            filter=_filter_of(operation, table, where or []), action=_action_of(action), tenant_id=tenant_id,
            persona_id=persona_id, cadence=cadence, most_share=share, description=description,
        )  # fmt: skip
        _tell(operation, retention.add(operation.connection, spec), "added", as_json=as_json)


@app.command()
def edit(
    name: Name,
    age: Annotated[str | None, typer.Option("--age", help="Another age; as in `add`.")] = None,
    column: OfColumn = None, where: Where = None,
    all_rows: Annotated[bool, typer.Option("--all-rows", help="Of whatever values: no filter any more.")] = False,
    action: Annotated[str | None, typer.Option("--action", help="Another action; as in `add`.")] = None,
    cadence: Annotated[Cadence | None, typer.Option("--cadence", help="Another schedule.")] = None,
    share: Annotated[float | None, typer.Option("--share", min=0.001, max=1, help="Another share.")] = None,
    description: Description = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change what is given of a policy; --where says the whole filter anew. Its table and whose it is stay."""
    given: dict[str, Any] = {
        "age": None if age is None else _age_of(age), "age_column": column, "cadence": cadence, "most_share": share,
        "action": None if action is None else _action_of(action), "description": description,
    }  # fmt: skip
    changes = {field: value for field, value in given.items() if value is not None}
    if where and all_rows:
        raise UsageError("--where and --all-rows contradict each other: give one of them")
    if not (changes or where or all_rows):
        raise UsageError("say what to change: `greenroom retention edit --help`")
    with operate() as operation:
        if where or all_rows:
            table = retention.named(operation.connection, name).table
            changes["filter"] = _filter_of(operation, table, where or [])
        _tell(operation, retention.edit(operation.connection, name, **changes), "edited", as_json=as_json)


@app.command()
def enable(name: Name, as_json: AsJson = False) -> None:
    """Switch a policy on: the next run of its cadence goes by it."""
    _switch(name, is_enabled=True, as_json=as_json)


@app.command()
def disable(name: Name, as_json: AsJson = False) -> None:
    """Switch a policy off: rows that it spoke of go by the more general ones, or stay."""
    _switch(name, is_enabled=False, as_json=as_json)


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Remove a policy; what its runs did stays noted."""
    with operate() as operation:
        gone = retention.remove(operation.connection, name)
    _say_gone(gone, "removed", as_json=as_json)


@app.command()
def hold(
    name: Name, table: Table,
    reason: Annotated[str, typer.Option("--reason", help="Why: a court's order, an audit.")],
    where: Where = None, tenant: OfTenant = None, persona: Persona = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Hold rows of any table: they stay whatever policies say, and so does what they would go or be changed with."""
    with operate() as operation:
        tenant_id, persona_id = _whose(operation, tenant, persona)
        spec = PolicySpec(
            name=name, table=table, age_column=retention.any_time(operation.connection, table),
            filter=_filter_of(operation, table, where or []), tenant_id=tenant_id, persona_id=persona_id,
            hold_reason=reason,
        )  # fmt: skip
        _tell(operation, retention.add(operation.connection, spec), "holds", as_json=as_json)


@app.command()
def release(name: Name, as_json: AsJson = False) -> None:
    """Lift a hold: what it kept goes by the policies again."""
    with operate() as operation:
        gone = retention.release(operation.connection, name)
    _say_gone(gone, "released", as_json=as_json)


def _switch(name: str, *, is_enabled: bool, as_json: bool) -> None:
    with operate() as operation:
        is_change = retention.switch(operation.connection, name, is_enabled=is_enabled)
        done = f"{'' if is_change else 'already '}{'enabled' if is_enabled else 'disabled'}"
        _tell(operation, retention.named(operation.connection, name), done, as_json=as_json)


def _show_all(policies: list[Policy], *, as_json: bool) -> None:
    if as_json:
        output.show_json({"policies": [facts(each) for each in policies]})
    else:
        show_list(policies)


def _tell(operation: Operation, policy: Policy, done: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json(facts(policy))
        return
    output.show_line(f"{done}:")
    show_policy(policy, retention.effective(operation.connection, policy.table, policy.tenant_id, policy.persona_id))


def _say_gone(policy: Policy, done: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json(facts(policy))
    else:
        output.show_line(f"{policy.name} is {done}")


def _policy_or_none(operation: Operation, name: str) -> Policy | None:
    """Return the policy of a name; None where it can be a table's."""
    try:
        return retention.named(operation.connection, name)
    except NotFoundError:
        if "." not in name:
            raise
        return None


def _whose(operation: Operation, tenant: str | None, persona: str | None) -> tuple[UUID | None, UUID | None]:
    """Return the ids of a tenant and a persona that a call names; raises NotFoundError and UsageError."""
    if tenant is None:
        if persona is not None:
            raise UsageError("a persona is its tenant's: give --tenant, too")
        return None, None
    tenant_id = tenants.find(operation.connection, tenant).id
    try:
        return tenant_id, None if persona is None else UUID(persona)
    except ValueError:
        raise UsageError(f"{persona!r} is no id of a persona: ids look like {UUID(int=0)}") from None


def _age_of(text: str) -> str:
    """Return an age as Postgres reads it; raises RetentionError."""
    if not _AGE.fullmatch(text) or not re.search("[1-9]", text):
        raise RetentionError(f"{text!r} is no age: write '12 hours', '30 days' or '1 year'")
    return text


def _action_of(text: str) -> Any:
    if text not in _ACTIONS:
        raise RetentionError(f"there is no action {text!r}: it is one of {', '.join(_ACTIONS)}")
    return _ACTIONS[text]


def _filter_of(operation: Operation, table: str, pairs: list[str]) -> dict[str, Any]:
    """Return the filter that pairs of column and value say, each value of its column's type as far as it can be."""
    types = {each.name: each.type for each in retention.columns(operation.connection, table)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not (name and sign):
            raise RetentionError(f"{pair!r} is no COLUMN=VALUE")
        if name in found:
            raise RetentionError(f"{name} is given twice: a row has one value of it")
        found[name] = _value_of(text, types.get(name, ""))
    return found


def _value_of(text: str, type_name: str) -> Any:
    if not text:
        return None
    if type_name == "boolean":
        return _TRUTH.get(text, text)
    if type_name.startswith(_NUMBERS):
        try:
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        except ValueError:
            return text
    return text
