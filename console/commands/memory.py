"""`greenroom memory`: what personas' chunks were condensed to."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from console import output
from console.commands.search import source_line
from console.options import AsJson, Before, Limit, Tenant, id_of
from console.runtime import operate
from console.watching import follow
from db import memory, spaces
from db.connection import tenant_transaction
from db.memory import Counts

app = typer.Typer(help="What personas remember, condensed: status, curate, show.", no_args_is_help=True)
Persona = Annotated[str, typer.Argument(metavar="PERSONA", help="Its id or name.")]


@app.command()
def status(persona: Persona, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Show what a persona knows, what of it is due, and how many tokens condensing saves."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        persona_id = memory.find_persona(operation.connection, persona)
        space = spaces.active_space(operation.connection)
        counts = memory.counts(operation.connection, persona_id, space.id)
    if as_json:
        output.show_json({"persona_id": persona_id} | _told(counts))
        return
    output.show_fields(
        [
            ("chunks", f"{counts.chunks:,} of {counts.tokens:,} tokens"),
            ("due", f"{counts.due:,}" + (f", {counts.waiting:,} of them without a vector" if counts.waiting else "")),
            ("memories", f"{counts.current:,} of {counts.memory_tokens:,} tokens"),
            ("made of", f"{counts.sources:,} chunks of {counts.source_tokens:,} tokens"),
            ("condensed", f"{counts.condensed_tokens:,} tokens, {counts.reduction:.0%} less"),
            ("superseded", counts.superseded or None),
            ("stale", counts.stale or None),
        ]
    )


@app.command()
def curate(
    persona: Persona,
    tenant: Tenant = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
    as_json: AsJson = False,
) -> None:
    """Condense what a persona has learnt since the last time, now; each night it is done for all."""
    from pipelines.documents.payloads import EMBEDDING_QUEUE
    from pipelines.enqueue import enqueue
    from pipelines.memory.payloads import CurateMemory, unique_key

    with operate(works=wait) as operation:
        if wait:
            operation.require_worker(EMBEDDING_QUEUE)
        tenant_id = operation.tenant_id(tenant)
        with tenant_transaction(operation.connection, tenant_id):
            payload = CurateMemory(persona_id=memory.find_persona(operation.connection, persona))
            key = unique_key(payload.persona_id)
            task_id = enqueue(operation.connection, payload, tenant_id=tenant_id, unique_key=key)
        result = follow(operation, task_id, "it was not condensed", quiet=as_json) if wait else None
    if as_json:
        output.show_json({"persona_id": payload.persona_id, "task_id": task_id, "result": result})
    elif result is None:
        output.show_line(f"the task {task_id} condenses it")
    else:
        counted = "{considered:,} chunks considered, {written:,} memories written, {superseded:,} superseded"
        output.show_line(counted.format(**result))


@app.command()
def show(
    persona: Persona,
    everything: Annotated[bool, typer.Option("--all", help="With what is superseded or stale.")] = False,
    limit: Limit = 20,
    before: Before = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show a persona's memories, newest first: each with what it was made of, and what it saves."""
    page = id_of(before)
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        persona_id = memory.find_persona(operation.connection, persona)
        found = memory.listed(operation.connection, persona_id, is_all=everything, limit=limit, before=page)
        sources = memory.sources(operation.connection, [each.chunk_id for each in found])
    following = found[-1].id if len(found) == limit else None
    if as_json:
        told = [asdict(each) | {"sources": [asdict(s) for s in sources.get(each.chunk_id, ())]} for each in found]
        output.show_json({"persona_id": persona_id, "memories": told, "next": following})
        return
    if not found:
        output.show_line("no memories: `greenroom memory curate` makes some of what is related")
    for each in found:
        by = f"{each.method} by {each.model}" if each.model else each.method
        saved = f"{each.source_token_count:,} tokens → {each.token_count:,}"
        output.show_hit(f"{each.id}  {each.status}, {by}, {each.source_count} chunks, {saved}", each.text)
        for source in sources.get(each.chunk_id, ()):
            output.show_line(f"   ← {source_line(source)}")
    if following:
        output.note(f"more: --before {following}")


def _told(counts: Counts) -> dict[str, Any]:
    reduction = round(counts.reduction, 4)
    return asdict(counts) | {"condensed_tokens": counts.condensed_tokens, "reduction": reduction}
