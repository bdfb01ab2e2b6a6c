"""Texts as Postgres takes them."""

import re
from typing import Final

_LINE_ENDINGS: Final = re.compile(r"\r\n?")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return `text` with \\n as line ending, and U+FFFD for NULs and unpaired surrogates.

    Not brought to NFC: that takes quadratic time for long runs of combining characters.
    """
    return _UNSTORABLE.sub("\ufffd", _LINE_ENDINGS.sub("\n", text))


def one_line(text: str) -> str:
    """Return a storable text in one line, runs of blanks as one."""
    return " ".join(storable(text).split())
