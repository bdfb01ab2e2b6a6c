"""`greenroom db`: the schema, by the owner's login."""

import typer

from console import output
from console.options import AsJson
from console.runtime import observe, owner_place

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Bring the database to this program: schema, login roles, task types, the embedding model's space."""
    observe("console")
    from console.setup import prepare

    with owner_place() as place:
        status = prepare(place.owner_direct(), place.settings)
    output.show_line(f"the schema is at {status.current}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say where the schema stands; exit status 1 if it is not this program's."""
    observe("console")
    from db import migrate as migration

    with owner_place() as place:
        found = migration.status(place.url)
    if as_json:
        output.show_json({"current": found.current, "wanted": found.wanted, "is_current": found.is_current})
    else:
        output.show_fields([("schema", found.current or "none"), ("program", found.wanted)])
    if not found.is_current:
        output.note("run `greenroom db migrate`, or upgrade the program if the schema is the newer one")
        raise typer.Exit(1)
