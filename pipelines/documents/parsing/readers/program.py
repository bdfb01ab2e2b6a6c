"""Source code: a block begins where a line without indent follows a blank one; what it defines is its section."""

import re
from collections.abc import Iterator
from typing import Final

from pipelines.documents.parsing.types import Block, Reading, Source

_BLANK_LINES: Final = re.compile(r"\n(?:[^\S\n]*\n)+(?=[^\s)\]}])")
_DEFINES: Final = re.compile(
    r"^(?:[@#][^\n]*\n)*(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([^)]*\))?|"
    r"unsafe|extern|open|sealed|data|inline|virtual|override|const)\s+)*"
    r"(?:def|class|function|func|fn|struct|enum|interface|trait|impl|type|module|package|namespace|object|protocol|"
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|PROCEDURE|TRIGGER|INDEX))\b\s*(?:\([^)\n]*\)\s*)?"
    r"([A-Za-z_$][\w$.:]*)",
    re.M | re.I,
)


def read(source: Source) -> Reading:
    """Read a program's source; nothing but blank lines is dropped."""
    return Reading(None, _blocks(source.text))


def _blocks(text: str) -> Iterator[Block]:
    for piece in _BLANK_LINES.split(text):
        code = piece.strip("\n").rstrip()
        if code.strip():
            defined = _DEFINES.match(code[:2_000])
            yield Block(code, "code", None, defined[1].rstrip(":.")[:200] if defined else None)
