"""Options that several commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Slug of the tenant; unset: GREENROOM_TENANT.")]
Collection = Annotated[str | None, typer.Option("--collection", help="Slug of the collection.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")]
Before = Annotated[str | None, typer.Option("--before", help="The next page: what comes after this id in the listing.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Wait so many seconds at most.")]
