"""What tests of the parser share: limits that good files stay within, and short forms of what comes out."""

from collections.abc import Callable

from pipelines.documents.parsing import ParsedDocument, ParseLimits

Parse = Callable[..., ParsedDocument]
"""From a file's name, its content and changed limits to the document."""


def limits_of(**changed: float) -> ParseLimits:
    """Return limits that good files stay within, some of them changed."""
    ample = {
        "max_bytes": 50_000_000,
        "max_pages": 2_000,
        "max_seconds": 120.0,
        "max_memory_bytes": 2_000_000_000,
        "max_characters": 60_000_000,
        "max_unpacked_bytes": 5_000_000,
    }
    return ParseLimits(**(ample | changed))  # type: ignore[arg-type]


def blocks(document: ParsedDocument) -> list[tuple[str, int | None, str | None, str]]:
    """Return (kind, page, section, text) of each block."""
    return [(block.kind, block.page, block.section, block.text) for block in document.blocks]


def texts(document: ParsedDocument) -> list[str]:
    """Return the text of each block."""
    return [block.text for block in document.blocks]
