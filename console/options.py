"""Options that several commands share."""

from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

import typer

from core.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Slug of the tenant; unset: GREENROOM_TENANT.")]
Collection = Annotated[str | None, typer.Option("--collection", help="Slug of the collection.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")]
OfType = Annotated[str | None, typer.Option("--type", help="Only that task type.")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Only that queue.")]
Owner = Annotated[str | None, typer.Option("--owner", help="Only those that work for that id.")]
WithError = Annotated[str | None, typer.Option("--error", help="Only those whose last error has that text in it.")]
Since = Annotated[str | None, typer.Option("--since", help="Ended since: a time with zone, or -3600 for an hour ago.")]
Until = Annotated[str | None, typer.Option("--until", help="Ended until then; as --since.")]
Before = Annotated[str | None, typer.Option("--before", help="The next page: what comes after this id in the listing.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Wait so many seconds at most.")]


def id_of(text: str | None) -> UUID | None:
    """Return the id that an option gives; raises UsageError where it is none."""
    return None if text is None else task_id(text)


def task_ids(texts: Iterable[str]) -> list[UUID]:
    """Return the ids that arguments give, in their order and each once."""
    return list(dict.fromkeys(map(task_id, texts)))


def task_id(text: str) -> UUID:
    """Return the id that an argument gives; raises UsageError where it is none."""
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an id: ids look like {UUID(int=0)}") from None
