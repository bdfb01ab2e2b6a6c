"""`greenroom doctor`: is everything as it should be?"""

from dataclasses import asdict

import typer

from console import output
from console.checks import Check, all_checks
from console.options import AsJson
from console.runtime import operate
from core.errors import EmbeddedServerError, SchemaError, UnavailableError


def doctor(as_json: AsJson = False) -> None:
    """Check database, schema, processes, broker, queues and storage; exit status 1 if something is wrong."""
    try:
        with operate() as operation:
            checks = all_checks(operation)
    except (UnavailableError, EmbeddedServerError, SchemaError) as error:
        checks = [Check("database", "wrong", str(error))]
    wrong = [check for check in checks if check.level == "wrong"]
    if as_json:
        output.show_json({"is_well": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        output.show_table(("check", "is", "detail"), [(check.name, check.level, check.detail) for check in checks])
    if wrong:
        output.show_error(f"{wrong[0].name}: {wrong[0].detail}")
        raise typer.Exit(1)
