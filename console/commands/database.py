"""`greenroom db`: the schema, by the owner's login."""

from typing import Annotated

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


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go back to; base: to an empty database.")],
    is_meant: Annotated[bool, typer.Option("--yes", help="What the newer revisions hold is lost.")] = False,
) -> None:
    """Take the schema back to an older revision; what only newer ones hold is lost. Stop the processes first."""
    observe("console")
    from db import migrate as migration

    if not is_meant:
        output.show_error("tables and columns of newer revisions are dropped, with their rows: repeat with --yes")
        raise typer.Exit(2)
    with owner_place() as place:
        found = migration.downgrade(place.owner_direct(), revision)
    output.show_line(f"the schema is at {found.current or 'nothing'}")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Compare the database with what this program expects, its rights too; exit status 1 if they differ."""
    observe("console")
    from db.drift import differences

    with owner_place() as place:
        found = differences(place.owner_direct())
    if as_json:
        output.show_json({"differences": found})
    else:
        output.show_line("\n".join(found) or "the database is what this program expects")
    if found:
        raise typer.Exit(1)


@app.command()
def seed(
    is_meant: Annotated[
        bool, typer.Option("--yes", help="Into a server of your own: it gets operators whose password anybody knows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fill a database for development: tenants, users, operators, personas, tools, products. Twice changes nothing."""
    observe("console")
    from console.setup import seed_rows

    with owner_place() as place:
        if not (place.is_embedded or is_meant):
            output.show_error(
                "operators and users get a password that anybody can read in the source: repeat with --yes"
            )
            raise typer.Exit(2)
        found = seed_rows(place.owner_direct(), place.settings)
    if as_json:
        output.show_json(
            {"rows": dict(found.rows), "api_keys": dict(found.api_keys), "kept_api_keys": found.kept_api_keys}
        )
        return
    output.show_line(f"{sum(found.rows.values())} rows written")
    if not place.settings.encryption.keys:
        output.note("API keys are left out: GREENROOM_ENCRYPTION_KEYS has none to hash them with")
    if found.kept_api_keys:
        output.note(
            f"API keys that were there are left as they are ({', '.join(found.kept_api_keys)}): "
            "they open while GREENROOM_ENCRYPTION_KEYS has the key that it had when they were made"
        )
    for name, key in found.api_keys.items():
        output.show_line(f"{name}: {key}")
