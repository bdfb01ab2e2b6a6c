"""What a file is: by its content where that tells, else as declared or by its name."""

import re
from typing import Final

from pipelines.documents.errors import DocumentRefusedError
from pipelines.documents.parsing import containers, media_type_of
from pipelines.documents.parsing.decoding import decode, is_binary
from pipelines.documents.parsing.formats import MARKS, begins_as_html

OCTETS: Final = "application/octet-stream"
MAX_KIND: Final = 100

_SAMPLE: Final = 1 << 14
_KIND: Final = re.compile(r"[a-z0-9][\w!#$&^.+-]*/[a-z0-9][\w!#$&^.+-]*", re.ASCII)
_MAX_TAIL: Final = 66_000
_MAX_DIRECTORY: Final = 1 << 20
_ZIP: Final = "application/zip"
_COMPOUND: Final = "application/x-ole-storage"
# Beside those that documents are told by: what mail carries, with where the mark stands.
_MORE: Final = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (4, b"ftyp", "video/mp4"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"MZ", "application/vnd.microsoft.portable-executable"),
)
_TOLD_BY_MARK: Final = {
    *(kind for _, kind, _ in MARKS),
    *(kind for _, _, kind in _MORE),
    _ZIP,
    _COMPOUND,
}
_TEXTS: Final = ("text/", "message/")
_TEXTUAL: Final = {
    "application/json", "application/xml", "application/xhtml+xml", "application/pgp-signature", "application/pgp-keys",
    "application/pgp-encrypted", "application/javascript", "application/yaml", "application/toml", "application/ics",
    "application/x-ndjson", "application/jsonl", "application/sql",
}  # fmt: skip


def kind_of(content: bytes, declared: str, name: str) -> str:
    """Return a file's media type, at most MAX_KIND characters."""
    claimed = declared if _KIND.fullmatch(declared) and len(declared) <= MAX_KIND else OCTETS
    if not content:
        return claimed
    if content.startswith(b"PK\x03\x04"):
        return _archive(content)
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        return _compound(content, name)
    marked = next((kind for mark, kind, _ in MARKS if content.startswith(mark)), None) or next(
        (kind for offset, mark, kind in _MORE if content.startswith(mark, offset) and _fits(content, kind)), None
    )
    if marked:
        return marked
    return _unmarked(claimed) if is_binary(content) else _text(content, claimed, name)


def _fits(content: bytes, kind: str) -> bool:
    """Tell whether what has a short mark of letters is no text that begins so."""
    return kind in ("application/pdf", "application/rtf") or is_binary(content) or b"\0" in content[:64]


def _archive(content: bytes) -> str:
    if not _is_directory_small(content):
        return _ZIP
    try:
        return _known(containers.in_archive(content)) or _ZIP
    except DocumentRefusedError:
        return _ZIP


def _is_directory_small(content: bytes) -> bool:
    """Tell whether an archive's directory is as small as documents have them: the library reads all of it."""
    tail = content[-_MAX_TAIL:]
    _, mark, record = tail.rpartition(b"PK\x05\x06")
    size = int.from_bytes(record[8:12], "little")
    return bool(mark) and size <= _MAX_DIRECTORY and b"PK\x06\x07" not in tail


def _known(kind: str | None) -> str | None:
    return kind if kind and _KIND.fullmatch(kind) and len(kind) <= MAX_KIND else None


def _compound(content: bytes, name: str) -> str:
    named = media_type_of(name)
    try:
        found = containers.in_compound(content)
    except DocumentRefusedError:
        found = None
    return found or (named if named in ("application/msword", "application/vnd.ms-powerpoint") else None) or _COMPOUND


def _unmarked(claimed: str) -> str:
    """Return what is declared of binary content, unless it were told by its mark or were text."""
    is_wrong = claimed in _TOLD_BY_MARK or claimed.startswith(_TEXTS) or claimed in _TEXTUAL
    return OCTETS if is_wrong or claimed.startswith("application/vnd.openxml") else claimed


def _text(content: bytes, claimed: str, name: str) -> str:
    if claimed.startswith(_TEXTS) and claimed != "text/plain":
        return claimed
    if claimed in _TEXTUAL or claimed.endswith(("+xml", "+json")):
        return claimed
    if begins_as_html(decode(content[:_SAMPLE])):
        return "text/html"
    named = media_type_of(name)
    return named if named and named.startswith("text/") else "text/plain"
