"""Spreadsheets (xlsx, xls, ods) by calamine: values as they were last computed; formulas and links are not followed."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import Any

from python_calamine import CalamineWorkbook, PasswordError

from pipelines.documents.errors import EncryptedFileError
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.rows import record_blocks
from pipelines.documents.parsing.types import Block, Reading, Source, check_pages, normalise


def read(source: Source) -> Reading:
    """Read a workbook; each sheet is a page and a section."""
    try:
        workbook = CalamineWorkbook.from_filelike(BytesIO(source.data))
    except PasswordError:
        raise EncryptedFileError("The workbook needs a password; save it without and ingest it again.") from None
    check_pages("workbook", "sheets", len(workbook.sheet_names), source.limits)
    return Reading(None, _blocks(workbook))


def _blocks(workbook: CalamineWorkbook) -> Iterator[Block]:
    for number, name in enumerate(workbook.sheet_names, 1):
        headings = Headings()
        title = normalise(name).strip()
        rows = workbook.get_sheet_by_name(name).iter_rows()
        found = list(record_blocks(([_text(cell) for cell in row] for row in rows), title or None, number))
        if found and title:
            headings.enter(0, title)
            yield Block(title, "title", number, headings.path)
        yield from found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return str(value) if isinstance(value, int | date | time | timedelta) else ""
