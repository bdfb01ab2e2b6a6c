"""Files of records: csv and tsv as rows beside their columns' names, json and jsonl as values beside their paths."""

import csv
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any, Final

from pipelines.documents.errors import BrokenFileError
from pipelines.documents.parsing.formats import JSON_LINES, TSV
from pipelines.documents.parsing.readers.rows import record_blocks
from pipelines.documents.parsing.types import Block, Reading, Source, normalise

_SNIFFED: Final = 1 << 14
_DELIMITERS: Final = ",;\t|"
_MAX_FIELD: Final = 1 << 30
_TOO_DEEP: Final = 200
# Of a deep path, the end says what the value is.
_SHOWN_STEPS: Final = 8
_BLOCK: Final = 2_000


def read(source: Source) -> Reading:
    """Read csv or tsv."""
    csv.field_size_limit(_MAX_FIELD)
    rows = csv.reader(StringIO(source.text, newline=""), dialect=_dialect(source))
    try:
        return Reading(None, tuple(record_blocks(rows, None)))
    except csv.Error:
        raise BrokenFileError("The file is no table of rows and columns; rename it to .txt or save it anew.") from None


def read_json(source: Source) -> Reading:
    """Read json or jsonl: each line, or each member of the outermost list or object, begins a block."""
    if source.media_type == JSON_LINES:
        return Reading(None, _lines(source.text))
    value = _parsed(source.text, "file")
    title = value.get("title") if isinstance(value, dict) else None
    return Reading(title if isinstance(title, str) else None, _members(value))


def _dialect(source: Source) -> type[csv.Dialect]:
    if source.media_type == TSV:
        return csv.excel_tab
    try:
        return csv.Sniffer().sniff(source.text[:_SNIFFED], _DELIMITERS)
    except csv.Error:
        return csv.excel


def _lines(text: str) -> Iterator[Block]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield from _blocks(_leaves(_parsed(line, f"line {number}"), ()), None)


def _members(value: Any) -> Iterator[Block]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _blocks(_leaves(member, (str(key),)), normalise(str(key)).strip()[:200] or None)
    elif isinstance(value, list):
        for member in value:
            yield from _blocks(_leaves(member, ()), None)
    else:
        yield from _blocks(_leaves(value, ()), None)


def _blocks(lines: Iterator[str], section: str | None) -> Iterator[Block]:
    """Gather lines to blocks of a size."""
    gathered: list[str] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield Block("\n".join(gathered), "text", None, section)
            gathered, size = [], 0
    if gathered:
        yield Block("\n".join(gathered), "text", None, section)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Yield `path: value` for what stands at the ends of the tree."""
    if len(path) > _TOO_DEEP:
        raise BrokenFileError(f"The JSON is nested deeper than {_TOO_DEEP} levels; flatten it and ingest it again.")
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, (*path, str(key)))
    elif isinstance(value, list):
        plain = [member for member in value if not isinstance(member, dict | list)]
        if len(plain) == len(value):
            yield from _leaf(", ".join(_shown(member) for member in value if member is not None), path)
        else:
            for member in value:
                yield from _leaves(member, path)
    elif value is not None:
        yield from _leaf(_shown(value), path)


def _leaf(text: str, path: tuple[str, ...]) -> Iterator[str]:
    text = normalise(text).strip()
    if text:
        name = normalise(".".join(path[-_SHOWN_STEPS:]))
        yield f"{name}: {text}" if name else text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parsed(text: str, where: str) -> Any:
    try:
        # Numbers stay as they were written: nobody calculates with them, and one may have a million digits.
        return json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        raise BrokenFileError(
            f"The JSON is nested deeper than {_TOO_DEEP} levels; flatten it and ingest it again."
        ) from None
    except ValueError:
        raise BrokenFileError(f"The {where} is not JSON; mend it or rename the file to .txt.") from None
