"""The header of a mail or a part: its fields as bytes, and where the body begins."""

import re
from collections.abc import Iterator
from typing import Final

from pipelines.mail.parsing.types import Problems

MAX_HEAD: Final = 1 << 20
"""Bytes of one header that are read."""
MAX_FIELDS: Final = 1_000
MAX_VALUE: Final = 1 << 16
"""Bytes of one field that are kept."""

_MAX_NAME: Final = 1_000  # with its colon and blanks
_NAME: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]{1,200})[ \t]*:")
_BLANK: Final = re.compile(rb"\n\r?\n")
_ENVELOPE: Final = (b"From ", b">From ")


class Fields:
    """Fields of a header in their order; names are looked up in lower case."""

    def __init__(self) -> None:
        self._pairs: list[tuple[str, list[bytes]]] = []
        self._size = 0

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return ((name, b"".join(pieces)) for name, pieces in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, name: str) -> bytes:
        """Return the first field of a name, nothing where there is none."""
        return next((b"".join(pieces) for known, pieces in self._pairs if known == name), b"")

    def get_all(self, name: str) -> bytes:
        """Return all fields of a name as one list with commas."""
        return b", ".join(b"".join(pieces) for known, pieces in self._pairs if known == name)

    def begin(self, name: str, value: bytes) -> None:
        """Add a field."""
        self._pairs.append((name, [value]))
        self._size = len(value)

    def extend(self, value: bytes, problems: Problems) -> None:
        """Add a line to the last field."""
        if self._size + len(value) > MAX_VALUE:
            problems.tell(f"A header field is longer than {MAX_VALUE} bytes; it is cut.")
            value = value[: max(0, MAX_VALUE - self._size)]
        self._pairs[-1][1].append(value)
        self._size += len(value)


def split_head(data: bytes, start: int, end: int, problems: Problems) -> tuple[Fields, int]:
    """Return the fields of the header that begins at `start`, and where its body begins."""
    fields = Fields()
    position = start
    while position < end:
        if position - start > MAX_HEAD:
            problems.tell(f"The header is longer than {MAX_HEAD} bytes; the rest of it is left out.")
            blank = _BLANK.search(data, position - 1, end)
            return fields, blank.end() if blank else end
        after = _line_end(data, position, end)
        line = data[position : min(after, position + MAX_VALUE + _MAX_NAME)].rstrip(b"\r\n")
        if not line:
            return fields, after
        if not _take(fields, line, problems, is_first=position == start):
            if not _is_field(data, after, end):
                problems.tell("No blank line stands between header and body.")
                return fields, position
            problems.tell("A line of the header is no field; it is skipped.")
        position = after
    return fields, end


def _line_end(data: bytes, position: int, end: int) -> int:
    found = data.find(b"\n", position, end)
    return end if found < 0 else found + 1


def _is_field(data: bytes, position: int, end: int) -> bool:
    return _NAME.match(data, position, end) is not None


def _take(fields: Fields, line: bytes, problems: Problems, *, is_first: bool) -> bool:
    """Take a line into the fields; tell whether it belongs to a header."""
    if line[:1] in (b" ", b"\t") and len(fields):
        fields.extend(line, problems)
        return True
    named = _NAME.match(line)
    if named is None:
        return is_first and line.startswith(_ENVELOPE)  # what mailbox files put before a mail
    if len(fields) >= MAX_FIELDS:
        problems.tell(f"The header has more than {MAX_FIELDS} fields; the rest of them is left out.")
        return True
    fields.begin(named[1].decode("ascii").lower(), b"")
    fields.extend(line[named.end() :].lstrip(b" \t"), problems)
    return True
