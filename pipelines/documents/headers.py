"""The header of a chunk: where in the document it stands, embedded and searched with its text.

A chunk that says "it then closes the valve" is found by what its title and section speak of.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipelines.documents.parsing.types import SECTION_SEPARATOR

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipelines.documents.tokens import Cl100k

_MAX_CHARACTERS: Final = 1_000
# Of what the model reads: a header is there to place the text, not to displace it.
_SHARE: Final = 4
_ENDS: Final = re.compile(r"^[\s\u203a|:,/-]+|[\s\u203a|:,/-]+$")


@dataclass(frozen=True, slots=True)
class HeaderTemplate:
    """What a header says, with {title} and {section}; an empty one makes none."""

    text: str


class Headers:
    """The headers of one document's chunks."""

    def __init__(
        self,
        template: HeaderTemplate,
        title: str | None,
        sections: Iterable[str | None],
        tokenizer: "Tokenizer | Cl100k",
        model_limit: int,
    ) -> None:
        specials = len(tokenizer.encode("").ids)
        room = model_limit // _SHARE
        self._by_section: dict[str | None, str] = {}
        self.reserved = 0
        """Tokens of the model that the longest of them takes, at most a quarter of what it reads."""
        for section in sections:
            if section in self._by_section:
                continue
            header = _cut(header_of(template.text, title, section), tokenizer, room)
            self._by_section[section] = header
            if header:
                # One more for the line's end: a tokenizer may count it.
                self.reserved = max(self.reserved, len(tokenizer.encode(header).ids) - specials + 1)

    def of(self, section: str | None) -> str:
        """Return the header of a section's chunks, '' where there is nothing to say."""
        return self._by_section[section]


def header_of(template: str, title: str | None, section: str | None) -> str:
    """Fill a template. A section path that begins with the title stands for both."""
    path = section or ""
    if title and path.partition(SECTION_SEPARATOR)[0].casefold() == title.casefold():
        path = path.partition(SECTION_SEPARATOR)[2]
    filled = template.format(title=title or "", section=path)
    return _ENDS.sub("", " ".join(filled.split()))[:_MAX_CHARACTERS]


def _cut(header: str, tokenizer: "Tokenizer | Cl100k", room: int) -> str:
    """Return as many whole words as there is room for; the last ones say the most, so the first go."""
    words = header.split()
    while words and len(tokenizer.encode(" ".join(words)).ids) > room:
        words = words[max(1, len(words) // 8) :]
    return " ".join(words)
