"""A text's sentences: by nupunkt, and by the full stops of scripts that it does not know."""

import re
from typing import Final

import nupunkt

# Empty lines, and lines that begin a list's item: what stands on both sides is not one sentence.
_BLOCK: Final = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•–#|>]|\d{1,3}[.)])\s)")
# Ideographic, halfwidth, Devanagari, Armenian, Ethiopic, Khmer, Burmese, Arabic, and the fullwidth exclamation mark.
_STOP: Final = re.compile(r"(?<=[。｡．！？।॥։።៕။۔؟])[」』”）)]*\s*")
# So long is no sentence: a table, a listing, a text without stops. It is cut between two words.
_LONGEST: Final = 1000


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences in their order, each with its white space made one space; none is empty."""
    found = []
    for block in _BLOCK.split(text):
        for piece in _STOP.split(block):
            line = " ".join(piece.split())
            if line:
                found += [part for start, end in nupunkt.sent_spans(line) for part in _cut(line[start:end].strip())]
    return found


def _cut(sentence: str) -> list[str]:
    """Return a sentence as it is, or in parts of bearable length."""
    parts = []
    while len(sentence) > _LONGEST:
        at = sentence.rfind(" ", _LONGEST // 2, _LONGEST)
        at = _LONGEST if at < 0 else at
        parts.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    return [part for part in [*parts, sentence] if part]
