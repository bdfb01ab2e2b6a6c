"""Excerpts: the part of a chunk that shows why it was found."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")
_SHORT = 3
_SUFFIX = re.compile(r"(?:ing|ed|es|s|ly)$")


def words_of(query: str) -> list[str]:
    """Return the stems of a query's words that are worth marking, in their order."""
    found = (_SUFFIX.sub("", word) or word for word in _WORD.findall(query.lower()) if len(word) > _SHORT)
    return list(dict.fromkeys(stem for stem in found if len(stem) >= _SHORT))


def excerpt(text: str, words: Sequence[str], length: int = 320) -> str:
    """Return a part of `text` of about `length` characters where most of the words stand, on one line."""
    flat = " ".join(text.split())
    if len(flat) <= length:
        return flat
    starts = [match.start() for word in words for match in re.finditer(rf"\b{re.escape(word)}", flat, re.I)]
    best = max(
        sorted(starts), key=lambda start: sum(start <= other < start + length - 60 for other in starts), default=0
    )
    begin = max(0, min(best - 40, len(flat) - length))
    end = begin + length
    # Whole words: neither the first nor the last of them is cut.
    begin = flat.find(" ", begin) + 1 if begin else 0
    end = flat.rfind(" ", begin, end) if end < len(flat) else len(flat)
    return ("… " if begin else "") + flat[begin:end] + (" …" if end < len(flat) else "")
