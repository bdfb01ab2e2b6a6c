"""From a file to a ParsedDocument, in a child process with limits of its own.

`types` is what comes out, `process` runs the child, `child` is its program and the only importer of unstructured and
spaCy, `formats`, `plain`, `markup` and `pdf` are what it does with each format. Nothing here reaches the network.
"""

from pathlib import Path
from threading import Lock

from pipelines.documents.parsing.formats import media_type_of
from pipelines.documents.parsing.process import ParserProcess
from pipelines.documents.parsing.types import Block, BlockKind, ParsedDocument, ParseLimits, PlacedBlock

__all__ = [
    "Block",
    "BlockKind",
    "ParseLimits",
    "ParsedDocument",
    "ParserProcess",
    "PlacedBlock",
    "close",
    "media_type_of",
    "parse",
]

_shared: ParserProcess | None = None
_shared_lock = Lock()


def parse(path: Path, *, media_type: str | None, limits: ParseLimits) -> ParsedDocument:
    """Parse a file in this process's one shared parser (`ParserProcess.parse`), which the first call starts."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ParserProcess()
    return _shared.parse(path, media_type=media_type, limits=limits)


def close() -> None:
    """End the shared parser's process. Twice is fine; without it the process ends with ours."""
    if _shared is not None:
        _shared.close()
