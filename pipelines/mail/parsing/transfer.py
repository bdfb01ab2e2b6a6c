"""Content-Transfer-Encoding undone: nothing that is broken raises, what can be had of it is had."""

import binascii
import re
from typing import Final, NamedTuple

from pipelines.mail.parsing.types import Problems

_IDENTITY: Final = {"", "7bit", "8bit", "binary", "none", "7-bit", "8-bit", "utf-8"}
_UU: Final = {"x-uuencode", "uuencode", "uue", "x-uue"}
_NO_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="))
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
_PIECE: Final = re.compile(rb"[^=]+")
_BEGIN: Final = re.compile(rb"^begin [0-7]{3,4} ([^\r\n]{1,250})\r?\n(?=M|[!-L][!-`]|`\r?\n)", re.MULTILINE)
_END: Final = re.compile(rb"^end[ \t]*\r?$\n?", re.MULTILINE)
_MAX_EMBEDDED: Final = 100


class Embedded(NamedTuple):
    """A uuencoded file that stood in a text."""

    name: bytes
    content: bytes


def undo(data: bytes, encoding: bytes, problems: Problems) -> bytes:
    """Return a body as it was before its transfer encoding."""
    name = encoding.split(b"(")[0].split(b";")[0].strip().strip(b"\"'").lower().decode("ascii", "replace")
    if name == "base64":
        return from_base64(data, problems)
    if name == "quoted-printable":
        return binascii.a2b_qp(data)
    if name in _UU:
        return b"".join(file.content for file in take_uuencoded(data)[1]) or _from_uu(data)
    if name not in _IDENTITY:
        problems.tell("A transfer encoding is unknown; the part is kept as it came.")
    return data


def from_base64(data: bytes, problems: Problems) -> bytes:
    """Return what base64 holds: characters that are none are skipped, each padding ends a piece."""
    packed = data.translate(_URLSAFE, _NO_BASE64)
    done = bytearray()
    is_damaged = _has_strays(data)
    for piece in _PIECE.finditer(packed):
        is_damaged = is_damaged or len(piece[0]) % 4 == 1
        done += binascii.a2b_base64(_whole(piece[0]))
    if is_damaged:
        problems.tell("A part's base64 is damaged; what can be read of it is kept.")
    if len(packed[packed.rfind(b"=") + 1 :]) % 4:
        problems.tell("A part's base64 ends early; what can be read of it is kept.")
    return bytes(done)


def _has_strays(data: bytes) -> bool:
    return bool(data.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_= \t\r\n"))


def _whole(piece: bytes) -> bytes:
    piece = piece[:-1] if len(piece) % 4 == 1 else piece
    return piece + b"=" * (-len(piece) % 4)


def take_uuencoded(data: bytes) -> tuple[bytes, tuple[Embedded, ...]]:
    """Return a text without the uuencoded files in it, and those."""
    kept: list[bytes] = []
    files: list[Embedded] = []
    position = 0
    while len(files) < _MAX_EMBEDDED and (begin := _BEGIN.search(data, position)):
        end = _END.search(data, begin.end())
        if end is None:
            break
        kept.append(data[position : begin.start()])
        files.append(Embedded(begin[1].strip(), _from_uu(data[begin.end() : end.start()])))
        position = end.end()
    return b"".join([*kept, data[position:]]), tuple(files)


def _from_uu(data: bytes) -> bytes:
    return b"".join(map(_uu_line, data.splitlines()))


def _uu_line(line: bytes) -> bytes:
    for length in (len(line), _stated(line)):  # some programs write a character too much
        try:
            return binascii.a2b_uu(line[:length])
        except binascii.Error:
            continue
    return b""


def _stated(line: bytes) -> int:
    """Return how long a line is by its first character."""
    return 1 + ((line[0] - 32 & 63) * 8 + 5) // 6 if line else 0
