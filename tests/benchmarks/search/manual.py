"""A manual in HTML and what its index says: each entry is a query, the pages that it names are what should be found."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import html

# Lists of everything: they answer every query, and no reader is helped.
_NO_ANSWERS = frozenset({"bookindex.html", "index.html", "glossary.html", "biblio.html", "acronyms.html"})
_WORD = re.compile(r"[A-Za-z]{3,}")


@dataclass(frozen=True)
class Query:
    """An entry of the index, and the names of the pages that it leads to."""

    text: str
    pages: frozenset[str]


def pages_of(folder: Path) -> list[Path]:
    """Return the manual's pages."""
    return sorted(path for path in folder.glob("*.html") if path.name not in _NO_ANSWERS)


def queries_of(folder: Path, most: int) -> list[Query]:
    """Return at most so many entries of the index, evenly from all over it."""
    root = html.parse(str(folder / "bookindex.html"))
    found: dict[str, set[str]] = {}
    for entry in root.iter("dt"):
        words = _words(entry)
        names = {link.get("href", "").partition("#")[0] for link in entry.iter("a")} - _NO_ANSWERS - {""}
        if _WORD.search(words) and names:
            found.setdefault(words, set()).update(names)
    every = [Query(text, frozenset(names)) for text, names in sorted(found.items())]
    step = max(1.0, len(every) / most)
    return [every[int(place * step)] for place in range(min(most, len(every)))]


def _words(entry: Any) -> str:
    """Return what an entry says, with the entry that it stands below."""
    own = " ".join((entry.text or "").replace("\u2026", " ").split()).strip(" ,*")
    above = entry.getparent().getparent()
    if above is not None and above.tag == "dd":
        main = above.getprevious()
        if main is not None and main.tag == "dt":
            return f"{_words(main)} {own}".strip()
    return own
