"""`greenroom doctor`: is everything as it should be?"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from console import output
from console.options import AsJson
from console.runtime import reach
from core.errors import EmbeddedServerError, SchemaError, UnavailableError

if TYPE_CHECKING:
    from console.checks.findings import Finding


def doctor(
    own: Annotated[
        bool, typer.Option("--own", help="Only what this host answers for: for the health check of a container.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Load the embedding models too, which takes a while.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check database, schema, processes, broker, queues, storage and keys; exit status 1 if something is wrong."""
    found = _findings(is_own=own, is_deep=deep)
    wrong = [finding for finding in found if finding.level == "wrong"]
    if as_json:
        output.show_json({"is_well": not wrong, "checks": [asdict(finding) for finding in found]})
    else:
        rows = [(finding.name, finding.level, finding.detail) for finding in found]
        output.show_table(("check", "is", "detail"), rows)
    if wrong:
        output.show_error(f"{wrong[0].name}: {wrong[0].detail}")
        raise typer.Exit(1)


def _findings(*, is_own: bool, is_deep: bool) -> "list[Finding]":
    """Return what the checks find; of a server that cannot even be brought up, that."""
    from console.checks.findings import Finding, Sight
    from console.checks.running import chosen, look

    checks = chosen(is_own=is_own, is_deep=is_deep)
    try:
        with reach() as place:
            sight = Sight(place.settings, place, is_own=is_own)
            try:
                return look(sight, checks)
            finally:
                sight.close()
    except SchemaError as error:
        return [Finding("schema", "wrong", str(error))]
    except (UnavailableError, EmbeddedServerError) as error:
        return [Finding("database", "wrong", str(error))]
