"""What parsing yields: blocks in reading order, and the normalised text that all offsets refer to."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from pipelines.documents.errors import TooManyPagesError

BlockKind = Literal["text", "title", "table", "code", "list_item"]

SECTION_SEPARATOR = " \u203a "

_LINE_ENDINGS = re.compile(r"\r\n?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class ParseLimits:
    """What one document may cost. Each is a refusal with a clear error, never a silent cut.

    The values are settings (core/settings.py, DocumentsSettings).
    """

    max_bytes: int
    """Of the file. Checked before it is read."""
    max_pages: int
    max_seconds: float
    """Wall clock for one document, the parser's start (5 to 6 s, once in many documents) not counted."""
    max_memory_bytes: int
    """Address space of the parser's process; 0.9 GB of it are taken by importing the parser."""
    max_characters: int
    """Of the text that comes out: a small compressed file can hold a very long one."""
    max_unpacked_bytes: int = 500_000_000
    """Of all that an archive holds (Office, OpenDocument, EPUB), by its own directory."""


@dataclass(frozen=True)
class Block:
    """A paragraph, heading, table, code listing or list item; its text is normalised (`normalise`)."""

    text: str
    kind: BlockKind = "text"
    page: int | None = None
    """Counted from 1; None where the format has no pages."""
    section: str | None = None
    """The headings above it, outermost first, joined by SECTION_SEPARATOR; a title's own is included."""


@dataclass(frozen=True)
class PlacedBlock:
    """A block and where it stands: `document.text[start:end] == block.text`."""

    block: Block
    start: int
    end: int


@dataclass(frozen=True)
class ParsedDocument:
    """A document's text as blocks. Equal bytes give equal documents."""

    title: str | None
    media_type: str
    """By content, not by name: one of `formats.FORMATS`."""
    blocks: tuple[Block, ...]
    language: str = "english"
    """The text search configuration of Postgres that its words belong to."""

    @property
    def text(self) -> str:
        """The whole normalised text; offsets of blocks and chunks count its characters."""
        return self._layout[0]

    @property
    def placed_blocks(self) -> tuple[PlacedBlock, ...]:
        """The blocks with their offsets, in the order of the text."""
        return self._layout[1]

    @cached_property
    def _layout(self) -> tuple[str, tuple[PlacedBlock, ...]]:
        parts: list[str] = []
        placed: list[PlacedBlock] = []
        position = 0
        for block in self.blocks:
            if parts:
                # One newline more before a title: the splitter takes longer runs of newlines as the stronger boundary.
                gap = "\n\n\n" if block.kind == "title" else "\n\n"
                parts.append(gap)
                position += len(gap)
            placed.append(PlacedBlock(block, position, position + len(block.text)))
            parts.append(block.text)
            position += len(block.text)
        return "".join(parts), tuple(placed)


@dataclass(frozen=True)
class Source:
    """What a reader gets."""

    data: bytes
    text: str
    """Normalised; empty for formats that are no text."""
    media_type: str
    limits: ParseLimits
    reads_pictures: bool = False
    """Whether pages that are pictures are read (the extra `ocr`)."""


class Reading(NamedTuple):
    """What a reader makes of it. Blocks may come one by one; a title that the format does not state is None."""

    title: str | None
    blocks: Iterable[Block]


def check_pages(what: str, parts: str, count: int, limits: ParseLimits) -> None:
    """Raise TooManyPagesError for a document of more pages, slides, sheets or chapters than the limits allow."""
    if count > limits.max_pages:
        raise TooManyPagesError(
            f"The {what} has {count} {parts}, {limits.max_pages} are allowed; split it or raise the limit."
        )


def normalise(text: str) -> str:
    """Return `text` as Postgres, JSON and the models take it.

    Line endings become \\n, NUL and unpaired surrogates U+FFFD, the rest is brought to NFC. Idempotent.
    """
    # NUL and surrogates first: NFC would keep them, and a replacement cannot make a text un-normalised.
    return unicodedata.normalize("NFC", _UNSTORABLE.sub("\ufffd", _LINE_ENDINGS.sub("\n", text)))


def section_path(headings: Iterable[str]) -> str | None:
    """Join the headings above a block, outermost first; None if there are none."""
    return SECTION_SEPARATOR.join(headings) or None
