"""Bytes of a body or a header to text, whatever they say of their charset."""

import codecs
from typing import Final

from pipelines.documents.parsing.decoding import decode
from pipelines.mail.parsing.types import Problems

# What Python decodes by these names is no charset of a mail; some take quadratic time.
_NONE: Final = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem", "charmap"}
# As browsers read them: the wider charset of the same characters (WHATWG Encoding).
_WIDER: Final = {
    "ascii": "", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932",
    "iso8859-9": "cp1254", "tis-620": "cp874", "big5": "big5hkscs",
}  # fmt: skip
_ALIASES: Final = {
    "x-unknown": "", "unknown-8bit": "", "8bit": "", "ansi": "cp1252", "x-gbk": "gb18030", "x-sjis": "cp932",
    "utf8mb4": "utf-8", "cp-850": "cp850", "x-mac-roman": "mac-roman",
}  # fmt: skip


def text_of(data: bytes, charset: str | None, problems: Problems) -> str:
    """Return a text in the charset that is named; without one, or with a wrong one, in what the bytes look like."""
    name = _codec(charset, problems)
    if name is None:
        return decode(data)
    try:
        return data.decode(name).removeprefix("\ufeff")
    except ValueError:  # the errors of codecs are of that kind
        problems.tell("A text does not keep to its charset; it is read as its bytes look.")
    text = decode(data) if name == "utf-8" else data.decode(name, "replace")
    return text if text.count("\ufffd") * 20 <= len(text) else decode(data)


def _codec(charset: str | None, problems: Problems) -> str | None:
    """Return the codec of a charset; None where the bytes have to tell."""
    given = (charset or "").strip().strip("\"'").lower()
    given = _ALIASES.get(given, given)
    if not given:
        return None
    try:
        name = codecs.lookup(given).name
        b"    ".decode(name, "replace")  # a codec that makes no text is refused here
    except (LookupError, ValueError):
        name = "undefined"
    if name in _NONE:
        problems.tell("A charset is unknown; the text is read as its bytes look.")
        return None
    return _WIDER.get(name, name) or None
