"""The parts of a mail, found in its bytes: positions, not copies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipelines.mail.parsing.fields import Fields, split_head
from pipelines.mail.parsing.types import MailLimits, Problems
from pipelines.mail.parsing.values import parameters_of

_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)
_FIRST_MARK: Final = re.compile(rb"(?:\A|\n)--([^\s-][^\r\n]{0,199}?)[ \t]*\r?\n")
_MAX_BOUNDARY: Final = 1_000
_MAX_FALSE_MARKS: Final = 10_000
_BLANKS: Final = b" \t\r"


@dataclass(frozen=True)
class Part:
    """A part: its fields, what it says to be, and where its body stands in the mail's bytes.

    Of one that is too deep, header and body.
    """

    fields: Fields
    kind: str
    parameters: dict[str, str]
    start: int
    end: int
    parts: tuple["Part", ...] = ()
    is_too_deep: bool = False


@dataclass
class Builder:
    """Builds the tree of one mail within its limits."""

    data: bytes
    limits: MailLimits
    problems: Problems
    _count: int = field(default=0)

    def build(self, start: int, end: int, *, depth: int = 0, otherwise: str = "text/plain") -> Part:
        """Return the part that stands from `start` to `end`, `otherwise` its kind where it names none."""
        self._count += 1
        fields, body = split_head(self.data, start, end, self.problems)
        kind, parameters = self._kind(fields, otherwise)
        if not kind.startswith("multipart/"):
            return Part(fields, kind, parameters, body, end)
        if depth >= self.limits.max_depth:
            self.problems.tell(
                f"Parts are nested more than {self.limits.max_depth} deep; the rest is kept as one file."
            )
            return Part(fields, kind, parameters, start, end, is_too_deep=True)  # header and all: a mail of its own
        boundary = self._boundary(fields, body, end)
        inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        parts = tuple(
            self.build(first, last, depth=depth + 1, otherwise=inner)
            for first, last in (self._pieces(boundary, body, end) if boundary else ())
        )
        if parts or self._count >= self.limits.max_parts:
            return Part(fields, kind, parameters, body, end, parts)
        self.problems.tell("A part says to hold parts, and none is found; it is read as text.")
        return Part(fields, "text/plain", {}, body, end)

    def _kind(self, fields: Fields, otherwise: str) -> tuple[str, dict[str, str]]:
        raw = fields.get("content-type")
        if not raw.strip():
            return otherwise, {}
        kind, parameters = parameters_of(raw, self.problems)
        if kind in ("text", "multipart") or _TYPE.fullmatch(kind):
            return {"text": "text/plain", "multipart": "multipart/mixed"}.get(kind, kind), parameters
        self.problems.tell("A content type cannot be read.")
        return otherwise, parameters

    def _boundary(self, fields: Fields, start: int, end: int) -> bytes:
        """Return what divides the parts: as stated, else the first line of the body that looks so."""
        _, parameters = parameters_of(fields.get("content-type"), self.problems)
        stated = parameters.get("boundary", "").rstrip().encode("utf-8")[:_MAX_BOUNDARY]
        if stated and self.data.find(b"--" + stated, start, end) >= 0:
            return stated
        guessed = _FIRST_MARK.search(self.data, max(start - 1, 0), min(end, start + (1 << 16)))
        if guessed is None:
            return b""
        self.problems.tell("A boundary is missing or wrong; the one that the body shows is taken.")
        return guessed[1]

    def _pieces(self, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where the parts between the boundary's lines stand, as many as are allowed."""
        begun: int | None = None
        for before, after, is_last in self._marks(b"--" + boundary, start, end):
            if begun is not None:
                if self._count >= self.limits.max_parts:
                    self.problems.tell(f"The mail has more than {self.limits.max_parts} parts; the rest is left out.")
                    return
                yield begun, max(begun, before)
            if is_last:
                return
            begun = after
        if begun is not None:
            self.problems.tell("The last boundary is missing: the mail may be cut off.")
            yield begun, end

    def _marks(self, mark: bytes, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Yield each boundary's line: where what is before it ends, where what follows begins, if it is the last."""
        others = 0
        at = start if self.data.startswith(mark, start, end) else self._next(mark, start, end)
        while at >= 0 and others < _MAX_FALSE_MARKS:
            found = self.data.find(b"\n", at, end)
            line_end = end if found < 0 else found
            rest = self.data[at + len(mark) : min(line_end, at + len(mark) + _MAX_BOUNDARY)]
            if rest.removeprefix(b"--").strip(_BLANKS):
                others += 1  # a line that only begins so
            else:
                yield self._line_before(at, start), min(line_end + 1, end), rest.startswith(b"--")
            at = self._next(mark, line_end, end)

    def _next(self, mark: bytes, position: int, end: int) -> int:
        """Return where the next line begins that begins with the mark, -1 for none."""
        found = self.data.find(b"\n" + mark, position, end)
        return found + 1 if found >= 0 else -1

    def _line_before(self, at: int, start: int) -> int:
        """Return where the line before `at` ends: its line ending belongs to the boundary."""
        for ending in (b"\n", b"\r"):
            if at > start and self.data[at - 1 : at] == ending:
                at -= 1
        return at
