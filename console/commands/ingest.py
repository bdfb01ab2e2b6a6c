"""`greenroom ingest`: files become searchable documents."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from console import output
from console.options import AsJson, Collection, Tenant, id_of
from console.runtime import operate
from console.values import payload_of
from core.errors import UnavailableError

if TYPE_CHECKING:
    from console.ingesting import Ingested
    from console.sources import Watch

_LOOK_SECONDS = 1.0
_TROUBLE = ("failed", "held", "deleted")


def ingest(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders, patterns, archives or URLs.")],
    collection: Collection = None,
    persona: Annotated[str | None, typer.Option(help="Whose documents they are: a persona's id.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the documents' metadata; may be repeated.")
    ] = None,
    tenant: Tenant = None,
    force: Annotated[bool, typer.Option("--force", help="Make anew what has not changed, too.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is new or changed, until Ctrl-C.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until each document is searchable or has failed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make files searchable. What has not changed since is left as it is; what is gone stays searchable."""
    from console.ingesting import Ingest, Ingested
    from console.sources import Watch, find_files, sources_of, text_of
    from pipelines.documents.payloads import DOCUMENTS_QUEUE

    watch = Watch(paths) if follow else None
    found = [] if watch else find_files(paths)
    with operate(works=wait) as operation:
        if wait:
            operation.require_worker(DOCUMENTS_QUEUE)
        work = Ingest(
            operation,
            operation.tenant_id(tenant),
            collection or "default",
            persona_id=id_of(persona),
            metadata=payload_of(meta or []),
            force=force,
        )

        def do(files: Sequence[Path | str]) -> bool:
            with TemporaryDirectory(prefix="greenroom-archives-") as folder:
                sources, refused = sources_of(files, Path(folder))
                results = work.run(sources, wait=wait, quiet=as_json)
            results += [Ingested(text_of(path), path.name, "failed", error=why) for path, why in refused.items()]
            show(results, as_json=as_json, in_a_line=follow)
            return not any(result.status in _TROUBLE for result in results)

        if watch is not None:
            _follow(watch, do)
        elif not do(found):
            raise typer.Exit(1)


def _follow(watch: "Watch", do: Callable[[Sequence[Path | str]], bool]) -> None:
    """Ingest what changes until somebody has seen enough; what failed is tried again when it changes."""
    with suppress(KeyboardInterrupt):
        while True:
            if files := watch.look():
                try:
                    do(files)
                except UnavailableError as error:  # no worker now: they are looked at again
                    output.note(str(error))
                else:
                    watch.done(files)
            time.sleep(_LOOK_SECONDS)


def show(results: "Sequence[Ingested]", *, as_json: bool, in_a_line: bool = False) -> None:
    """Print what became of files: a line for all, and a table of what failed and why."""
    counts = Counter(result.status for result in results)
    if as_json:
        print_json = output.show_json_line if in_a_line else output.show_json
        print_json({"documents": [asdict(result) for result in results], "counts": counts})
        return
    listed = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    output.show_line(f"{len(results)} documents: {listed}" if len(results) != 1 else f"1 document: {listed}")
    failed = [result for result in results if result.status in _TROUBLE]
    if failed:
        output.show_table(("document", "status", "why"), [(r.path, r.status, r.error) for r in failed])
