"""`greenroom demo`: the sample documents, through the outbox and found again."""

from pathlib import Path
from typing import TYPE_CHECKING

from console import output
from console.commands.ingest import show as show_ingested
from console.commands.search import find
from console.commands.search import show as show_hits
from console.runtime import Operation, operate
from core.errors import GreenroomError

if TYPE_CHECKING:
    from console.ingesting import Ingested

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
QUERIES = (
    "How often does the clockwork of the light have to be wound?",
    "Why are there two high tides a day and not one?",
    "Where does the green room get its name from?",
)


def demo() -> None:
    """Ingest the sample documents and search them."""
    from pipelines.documents.payloads import DOCUMENTS_QUEUE

    with operate(works=True) as operation:
        operation.require_worker(DOCUMENTS_QUEUE)
        output.show_line(f"Ingesting the sample documents of {SAMPLES}")
        results = _ingest(operation)
        for query in QUERIES:
            output.show_line()
            output.show_line(f"greenroom search {query!r}")
            show_hits(find(operation, query, limit=2))
    if failed := sum(result.status not in {"completed", "unchanged"} for result in results):
        raise GreenroomError(f"{failed} of the sample documents were not ingested: see `greenroom tasks list --failed`")
    _show_next()


def _ingest(operation: Operation) -> "list[Ingested]":
    from console.ingesting import Ingest
    from console.sources import find_files, sources_of

    tenant_id = operation.tenant_id()
    samples, _ = sources_of(find_files([str(SAMPLES)]), SAMPLES)
    results = Ingest(operation, tenant_id, "default").run(samples, wait=True, quiet=False)
    show_ingested(results, as_json=False)
    embedded = sum(result.chunks or 0 for result in results if result.status == "completed")
    if embedded:
        output.show_line(f"{embedded} chunks were embedded; a second `greenroom demo` embeds none of them again.")
    else:
        output.show_line("All of them are known and unchanged: nothing was embedded again.")
    return results


def _show_next() -> None:
    output.show_line()
    output.show_line("What to try next:")
    output.show_line("  greenroom search 'your own question'     in the same documents")
    output.show_line("  greenroom ingest PATH                    your own files: office, PDF, HTML, mail, code …")
    output.show_line("  greenroom documents list                 what was made of them")
    output.show_line(
        "  greenroom up                             keep server and workers running, then in another terminal:"
    )
    output.show_line("  greenroom tasks list                     every task, in every status")
