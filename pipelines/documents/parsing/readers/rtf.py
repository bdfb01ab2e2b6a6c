"""Rich text (rtf) by striprtf: its words, without its looks."""

from striprtf.striprtf import rtf_to_text

from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.plain import plain_blocks
from pipelines.documents.parsing.types import Reading, Source, normalise


def read(source: Source) -> Reading:
    """Read an rtf. The format is ASCII; what stands for other characters is decoded by the code page that it names."""
    text = str(rtf_to_text(source.data.decode("latin-1"), errors="replace"))  # type: ignore[no-untyped-call]
    # One line an end of paragraph: blank lines make them paragraphs here too.
    return Reading(None, plain_blocks(normalise(text).replace("\n", "\n\n"), Headings()))
