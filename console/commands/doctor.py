"""`greenroom doctor`: is everything as it should be?"""

from dataclasses import asdict
from typing import Annotated

import typer

from console import output
from console.checks import Check, all_checks, own_checks
from console.options import AsJson
from console.runtime import operate
from core.errors import EmbeddedServerError, SchemaError, UnavailableError


def doctor(
    own: Annotated[
        bool, typer.Option("--own", help="Only what this host answers for: for the health check of a container.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check database, schema, processes, broker, queues and storage; exit status 1 if something is wrong."""
    try:
        with operate() as operation:
            checks = own_checks(operation) if own else all_checks(operation)
    except SchemaError as error:
        checks = [Check("schema", "wrong", str(error))]
    except (UnavailableError, EmbeddedServerError) as error:
        checks = [Check("database", "wrong", str(error))]
    wrong = [check for check in checks if check.level == "wrong"]
    if as_json:
        output.show_json({"is_well": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        output.show_table(("check", "is", "detail"), [(check.name, check.level, check.detail) for check in checks])
    if wrong:
        output.show_error(f"{wrong[0].name}: {wrong[0].detail}")
        raise typer.Exit(1)
