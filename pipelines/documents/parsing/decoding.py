"""Bytes that may be text: whether they are, and which."""

import codecs
import re
import sys
from typing import Final
from unicodedata import category

_META_CHARSET: Final = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.I)
_SAMPLE: Final = 1 << 16
# The longer ones first: the mark of UTF-32 begins as that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# Control characters that no text holds. NUL is judged apart: a text may have strayed ones, which become U+FFFD.
_CONTROLS: Final = re.compile("[\x01-\x07\x0e-\x1a\x1c-\x1f]")


def is_binary(data: bytes) -> bool:
    """Judge a sample: many control characters or NULs, or bytes that are no text in any encoding that we decode."""
    if _marked(data):
        return False
    sample = data[:_SAMPLE]
    text = sample.decode("utf-8", "replace")
    controls = len(_CONTROLS.findall(text))
    nuls = text.count("\0")
    if "\ufffd" in text:
        return controls * 20 > len(text) or nuls * 50 > len(text)
    # Valid UTF-8 with a third of NULs is UTF-16 without its mark, or a memory image.
    return controls * 5 > len(text) or (nuls * 3 > len(text) and len(text) > 64)


def is_blank(text: str) -> bool:
    """Tell whether a text has no character that is seen: blanks, and those that only shape others."""
    return all(character.isspace() or category(character) == "Cf" for character in text.strip())


def decode(data: bytes) -> str:
    """Return a text: by its mark, as UTF-8, by what it declares, or as the usual Windows code page."""
    if encoding := _marked(data):
        return data.decode(encoding, "replace")
    try:
        # Encoded surrogates pass here and become U+FFFD when the text is normalised.
        return data.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError:
        return _decode_declared(data) or _decode_damaged(data)


def _marked(data: bytes) -> str | None:
    found = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    # A text in UTF-16 that begins with a NUL has the mark of UTF-32; what follows is no character of that.
    if found == "utf-32" and int.from_bytes(data[4:8], "little" if data[0] else "big") > sys.maxunicode:
        return "utf-16" if data[0] else None
    return found


def _decode_declared(data: bytes) -> str | None:
    declared = _META_CHARSET.search(data[:2048])
    if declared is None:
        return None
    try:
        return data.decode(declared[1].decode("ascii"), "replace")
    except (LookupError, UnicodeError):
        return None


def _decode_damaged(data: bytes) -> str:
    """UTF-8 with some bad bytes keeps its good characters; what has hardly any UTF-8 in it is a Windows code page."""
    text = data.decode("utf-8-sig", "replace")
    bad = text.count("\ufffd")
    good = sum(1 for character in text[:_SAMPLE] if "\x7f" < character != "\ufffd")
    return text if good >= bad else data.decode("cp1252", "replace")
