"""Rows of cells to table blocks, for every format that has tables."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pipelines.documents.parsing.types import Block, normalise

SEPARATOR: Final = " | "
# A block is at most so many rows and about so many characters: a chunk of it is a few rows that say what they are.
_ROWS: Final = 50
_CHARACTERS: Final = 4_000
# Above these, names of columns beside each value would be most of the text.
_MAX_NAMED_COLUMNS: Final = 60
_MAX_NAME: Final = 60


def table_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines, their cells side by side; empty rows and blanks at the ends are left out."""
    return "\n".join(line for row in rows if (line := _line(row)))


def record_blocks(rows: Iterable[Sequence[str]], section: str | None, page: int | None = None) -> Iterator[Block]:
    """Yield the rows of a sheet or a file of records, each value beside the name of its column.

    The first row names the columns if each of its cells is a short text of its own; else rows stay as they are.
    """
    iterator = iter(rows)
    head = next((row for row in iterator if any(cell.strip() for cell in row)), None)
    if head is None:
        return
    names = [" ".join(cell.split()) for cell in head]
    named = _are_names(names)
    lines: list[str] = [_line(head)]
    size = 0
    for row in iterator:
        line = _named_line(names, row) if named else _line(row)
        if not line:
            continue
        lines.append(line)
        size += len(line)
        if len(lines) >= _ROWS or size >= _CHARACTERS:
            yield Block(normalise("\n".join(lines)), "table", page, section)
            lines, size = [], 0
    if lines:
        yield Block(normalise("\n".join(lines)), "table", page, section)


def _line(row: Sequence[str]) -> str:
    cells = [" ".join(cell.split()) for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return SEPARATOR.join(cells).strip()


def _named_line(names: Sequence[str], row: Sequence[str]) -> str:
    parts = []
    for index, cell in enumerate(row):
        value = " ".join(cell.split())
        if value:
            name = names[index] if index < len(names) else ""
            parts.append(f"{name}: {value}" if name else value)
    return SEPARATOR.join(parts)


def _are_names(names: Sequence[str]) -> bool:
    filled = [name for name in names if name]
    return (
        2 <= len(names) <= _MAX_NAMED_COLUMNS
        and len(filled) * 2 > len(names)
        and len(set(filled)) == len(filled)
        and all(len(name) <= _MAX_NAME and not _is_number(name) for name in filled)
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
