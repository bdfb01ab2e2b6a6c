"""`greenroom collections`: what documents are kept together, and how they are cut."""

from dataclasses import asdict
from typing import Annotated

import typer

from console import output
from console.options import AsJson, Tenant
from console.runtime import operate
from core.errors import UsageError
from db import collections
from db.connection import tenant_transaction

app = typer.Typer(help="Collections of documents: list, set.", no_args_is_help=True)


@app.command("list")
def list_collections(tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List a tenant's collections: how their documents are cut, and how many they have."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        found = collections.list_collections(operation.connection)
    if as_json:
        output.show_json([asdict(each) for each in found])
        return
    columns = ("collection", "name", "#chunk size", "#overlap", "#documents", "description")
    rows = [(c.slug, c.name, c.chunk_size, c.chunk_overlap, c.documents, c.description) for c in found]
    output.show_table(columns, rows, empty="no collections")


@app.command("set")
def change(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Its slug; made if there is none.")],
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens (cl100k_base) of a chunk: 16 to 8192.")] = None,
    chunk_overlap: Annotated[int | None, typer.Option(help="Tokens that a chunk repeats of the one before.")] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Make or change a collection. What it has stays as it was cut until it is ingested anew, with --force."""
    changed = {"name": name, "description": description, "chunk_size": chunk_size, "chunk_overlap": chunk_overlap}
    if all(value is None for value in changed.values()):
        raise UsageError("say what to set: --name, --description, --chunk-size or --chunk-overlap")
    with operate() as operation:
        tenant_id = operation.tenant_id(tenant)
        with tenant_transaction(operation.connection, tenant_id):
            collection_id, is_new = collections.ensure_collection(operation.connection, tenant_id, collection)
            collections.change_collection(
                operation.connection,
                collection_id,
                name=name,
                description=description,
                chunk_size=chunk_size,
                chunk_overlap=chunk_overlap,
            )
    if as_json:
        output.show_json({"id": collection_id, "slug": collection, "is_new": is_new})
    else:
        output.show_line(f"{'made' if is_new else 'changed'} the collection {collection}")
