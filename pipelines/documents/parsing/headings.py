"""The headings above a reader's place, by which blocks get their section."""

from pipelines.documents.parsing.types import section_path

_MAX_HEADING = 200
_MAX_DEPTH = 8


class Headings:
    """The headings above the reader's place. A lower depth closes those that are deeper."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, depth: int, title: str) -> None:
        """Open a heading; depth 0 is the outermost."""
        self._open = [(other, text) for other, text in self._open if other < depth]
        # One line, bounded: headings are shown, and a page without structure may call a whole page one.
        self._open = [*self._open[: _MAX_DEPTH - 1], (depth, " ".join(title.split())[:_MAX_HEADING])]

    @property
    def path(self) -> str | None:
        """The section for blocks that follow."""
        return section_path(text for _, text in self._open)
