"""What a text names, and which of that stands in none of its sources: numbers, addresses, names, quoted words.

It asks no dictionary and no model, so it works in any language whose script it can read, within limits: a name is told
by its capital letter inside of a sentence, so one that begins a sentence is not, nor is one in a script without
capitals (runs of Katakana are); a language that writes all nouns with capitals has more words to find again. A fact
that stands in a source and is told of the wrong thing is not noticed. Figures: docs/memory.md.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from pipelines.memory.summarising.sentences import sentences_of

Kind = Literal["number", "address", "name", "quote"]

# Each begins where a run of its letters does, or a long one without an end would be tried from every place.
_URL: Final = re.compile(r"(?<![a-z0-9+.-])(?:[a-z][a-z0-9+.-]*+://|www\.)[^\s<>\"”»]+", re.IGNORECASE)
_MAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]++@[\w-]+(?:\.[\w-]+)+")
# A host's name, a path, an identifier: words that are joined by what joins no words of a sentence.
_JOINED: Final = re.compile(r"(?<![\w/.@-])(?:--?(?=[^\W\d])|~?/)?\w+(?:(?:[./@:\\=-]|::)\w+)*/?")
_JOINTS: Final = re.compile(r"[/_\\@=]|(?<=[^\W\d_])\.(?=[^\W\d_])")
# Groups of three digits may be set apart, decimals may be: what it is, is told by `_readings`.
_NUMBER: Final = re.compile(r"\d+(?:[.,'’ ]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*")
_THOUSANDS: Final = re.compile(r"\d{1,3}(?:[.,'’ ]\d{3})+(?:[.,]\d+)?")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W_]+)*")
_PART: Final = re.compile(r"[^\W_]+")
_KATAKANA: Final = re.compile(r"[ァ-ヺー]{3,}")
_QUOTED: Final = re.compile(
    r"\"([^\"]+)\"|“([^”“]+)[”“]|„([^“”„]+)[“”]|«([^»]+)»|‹([^›]+)›|「([^」]+)」|『([^』]+)』|`([^`]+)`|(?<!\w)['‘]([^'’]+)['’](?!\w)"
)
_AFTER: Final = ":;\"“„«»‹「『(['‘*•–—-"
_SHORTEST_STEM: Final = 4
_SUFFIX: Final = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a text names, as it stands there."""

    kind: Kind
    text: str


class Facts:
    """What sources hold, made ready to be asked for."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._text = _normalised(" \n ".join(sources))

    @cached_property
    def _flat(self) -> str:
        return _flat(self._text)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(part.casefold() for part in _PART.findall(self._text))

    @cached_property
    def _capitals(self) -> frozenset[str]:
        return frozenset(part.casefold() for part in _PART.findall(self._text) if part[0].isupper())

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return frozenset(reading for found in _NUMBER.findall(self._text) for reading in _readings(found))

    @cached_property
    def _addresses(self) -> frozenset[str]:
        return frozenset(_trimmed(found) for kind in (_URL, _MAIL, _JOINED) for found in kind.findall(self._text))

    def foreign(self, text: str) -> list[Fact]:
        """Return what a text names and no source holds, kind by kind."""
        normal = _normalised(text)
        rest, addresses = self._without_addresses(normal)
        return [
            *addresses,
            *(Fact("number", n) for n in _NUMBER.findall(rest) if self._numbers.isdisjoint(_readings(n))),
            *(Fact("name", name) for name in _names(rest) if not self._knows(name)),
            *(Fact("quote", quoted) for quoted in _quotes(normal) if _flat(quoted).strip() not in self._flat),
        ]

    def _without_addresses(self, text: str) -> tuple[str, list[Fact]]:
        """Return a text without its addresses and identifiers, and those of them that no source holds."""
        foreign = []
        for kind in (_URL, _MAIL, _JOINED):
            for found in kind.findall(text):
                if kind is _JOINED and not _JOINTS.search(found):
                    continue
                address = _trimmed(found)
                text = text.replace(found, " , ", 1)
                if address not in self._addresses and not self._knows_parts(kind, address):
                    foreign.append(Fact("address", found))
        return text, foreign

    def _knows_parts(self, kind: re.Pattern[str], address: str) -> bool:
        # "and/or" is none: both words are the sources' own
        return kind is _JOINED and all(part.casefold() in self._words for part in _PART.findall(address))

    def _knows(self, name: str) -> bool:
        return all(self._knows_word(part.casefold()) for part in _PART.findall(name) if len(part) > 1)

    def _knows_word(self, word: str) -> bool:
        if _KATAKANA.fullmatch(word):  # no space parts it from the words around it
            return word in self._text
        if word in self._words or word.isdigit():
            return True
        return any(_are_one(word, known) for known in self._capitals)


def _are_one(word: str, known: str) -> bool:
    """Tell whether two words are forms of one: the one with an ending of the other, or another ending."""
    short, long = sorted((word, known), key=len)
    if len(short) < _SHORTEST_STEM:
        return False
    if long.startswith(short):
        return len(long) - len(short) <= _SUFFIX
    stem = max(_SHORTEST_STEM, len(long) - 2)
    return len(short) >= stem and short[:stem] == long[:stem]


def _names(text: str) -> Iterator[str]:
    """Yield the words that are names by how they are written."""
    yield from _KATAKANA.findall(text)
    for sentence in sentences_of(text):
        for found in _WORD.finditer(sentence):
            word, before = found.group(), sentence[: found.start()].rstrip()
            is_first = not before or before[-1] in _AFTER or before[-1] in ".!?"
            inner = any(letter.isupper() for letter in word[1:])
            if len(word) > 1 and word[0].isupper() and (inner or not is_first):
                yield word


def _quotes(text: str) -> Iterator[str]:
    for found in _QUOTED.finditer(text):
        yield next(group for group in found.groups() if group is not None)


def _readings(number: str) -> set[str]:
    """Return what a number may mean: a comma is a decimal's or a thousand's, and zeros in front mean nothing."""
    plain = number.replace(",", ".")
    found = {".".join(part.lstrip("0") or "0" for part in plain.split("."))}
    if _THOUSANDS.fullmatch(number):
        joined = re.sub(r"[.,'’ ](?=\d{3}(?!\d))", "", number).replace(",", ".")
        found.add(joined.lstrip("0"))
    return found


def _normalised(text: str) -> str:
    """Return a text with compatible characters made one, and every script's digits made ASCII's."""
    normal = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in normal)


def _flat(text: str) -> str:
    """Return a text's words alone, with a space on each side."""
    return f" {' '.join(_PART.findall(text.casefold()))} "


def _trimmed(address: str) -> str:
    return address.rstrip(".,;:!?)]}>'’\"/*").casefold()
