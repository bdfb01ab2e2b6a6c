"""A document's text to chunks that the embedding model reads whole.

Invariants: a chunk is `document.text[start:end]`, has at most `max_tokens` cl100k_base tokens and at most
`model_limit` tokens of the model; every character that is not blank is in a chunk.

semantic-text-splitter finds the boundaries (runs of newlines, sentences, words). What it measures with is an estimate
from a table of words, faster than asking a tokenizer for every candidate; each chunk is then counted exactly,
and the few that are too long are halved. Figures: docs/decisions/0004-parsing-and-splitting.md.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from semantic_text_splitter import TextSplitter

from pipelines.documents import tokens
from pipelines.documents.parsing.types import ParsedDocument, PlacedBlock

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipelines.documents.tokens import Cl100k

CountTokens = Callable[[str], int]
"""Tokens of a text as the model counts them, its special tokens included."""
Span = tuple[int, int]

# The splitter's time grows faster than what it gets at once: 0.33 MB/s on 500,000 characters, 0.70 MB/s on these.
_WINDOW: Final = 16_000
_FULL_ENOUGH: Final = 0.8
_LEAST_TOKENS: Final = 16
_CACHED_WORD: Final = 40
# Of a model, some 20 MB.
_MOST_WORDS: Final = 200_000
_SHIFT: Final = 32
_LOW: Final = (1 << _SHIFT) - 1
_BOUNDARIES: Final = ("\n\n\n", "\n\n", "\n", ". ", " ")
# Pieces of a word that is too long to be looked up: ideographs and the like one by one, letters in runs, signs.
_UNITS: Final = re.compile(r"[\u1100-\U0010ffff]|[^\W_]{1,32}|[^\w\s]|_")
_UNIT_OR_BLANK: Final = re.compile(_UNITS.pattern + r"|\s{1,32}")


@dataclass(frozen=True)
class Chunk:
    """A piece of a document's text, with where it stands."""

    index: int
    text: str
    token_count: int
    """cl100k_base tokens."""
    model_token_count: int
    """Tokens of the embedding model, its special tokens included."""
    page: int | None
    """The page that it begins on."""
    section: str | None
    """The section that most of it belongs to."""
    start: int
    end: int


def split(
    document: ParsedDocument,
    *,
    max_tokens: int,
    overlap_tokens: int,
    model_limit: int,
    count_model_tokens: "CountTokens | Tokenizer | Cl100k",
) -> list[Chunk]:
    """Split a document. `overlap_tokens` (cl100k_base, at most half of `max_tokens`) is how far chunks reach back.

    A `Tokenizer` must neither cut nor pad (`ModelFiles.tokenizer`); it is much faster than a function.
    Equal arguments give equal chunks.
    """
    if min(max_tokens, model_limit) < _LEAST_TOKENS or not 0 <= overlap_tokens <= max_tokens // 2:
        raise ValueError(f"chunks need at least {_LEAST_TOKENS} tokens, and an overlap of at most half of max_tokens")
    meter = _Meter(max_tokens, model_limit, count_model_tokens)
    splitter = _Splitter(meter, overlap_tokens)
    placed = document.placed_blocks
    starts = [block.start for block in placed]
    text = document.text
    chunks: list[Chunk] = []
    for window in _windows(text):
        for (start, end), (count, model_count) in _counted(text, splitter.spans(text, window), meter):
            covered = placed[bisect_right(starts, start) - 1 : bisect_right(starts, end - 1)]
            section = _section(covered, start, end)
            page = covered[0].block.page
            chunks.append(Chunk(len(chunks), text[start:end], count, model_count, page, section, start, end))
    return chunks


class _Words(dict[str, int]):
    """What words count, each counted when it first comes."""

    def __init__(self, count: CountTokens) -> None:
        self._count = count

    def __missing__(self, word: str) -> int:
        if len(word) > _CACHED_WORD:
            return sum(self[unit] for unit in _UNITS.findall(word))
        self[word] = counted = self._count(word)
        return counted


class _ModelWords(_Words):
    """What words count in cl100k_base and in a model's tokens, both in one integer: one sum gives both sums."""

    def __init__(self, count_model_tokens: "CountTokens | Tokenizer | Cl100k") -> None:
        super().__init__(lambda word: self._packed(word, self.count_many([word])[0]))
        self.count_many = _many(count_model_tokens)
        (self.specials,) = self.count_many([""])

    def learn(self, text: str) -> None:
        """Count the words of a text in one go; one by one, new words were a third of the whole split."""
        if len(self) > _MOST_WORDS:
            self.clear()
        new = [word for word in set(text.split()) if len(word) <= _CACHED_WORD and word not in self]
        for word, count in zip(new, self.count_many(new), strict=True):
            self[word] = self._packed(word, count)

    def _packed(self, word: str, model_count: int) -> int:
        # Most words have a blank before them, which cl100k_base makes part of their token.
        return (model_count - self.specials << _SHIFT) + tokens.count(" " + word)


@lru_cache(maxsize=4)
def _model_words(count_model_tokens: "CountTokens | Tokenizer | Cl100k") -> _ModelWords:
    """Return the words of a model, kept from one document to the next: most words of one stand in the other."""
    return _ModelWords(count_model_tokens)


class _Meter:
    """Measures texts against both limits at once, in tokens of the model."""

    def __init__(
        self, max_tokens: int, model_limit: int, count_model_tokens: "CountTokens | Tokenizer | Cl100k"
    ) -> None:
        self.max_tokens = max_tokens
        self.model_limit = model_limit
        self.words = _model_words(count_model_tokens)
        self.budget = model_limit - self.words.specials

    def estimate(self, text: str) -> int:
        """Return about the share of the budget that a text takes; near enough for finding boundaries."""
        both = sum(map(self.words.__getitem__, text.split()))
        counted = (both & _LOW) + text.count("\n") + text.count("\n ")
        return max(both >> _SHIFT, self.scaled(counted))

    def scaled(self, count: int) -> int:
        """Return cl100k_base tokens as that share of the model's budget which they are of `max_tokens`."""
        return -(-count * self.budget // self.max_tokens)

    def exact(self, texts: list[str]) -> list[tuple[int, int]]:
        """Return the counts of each text, in cl100k_base and in the model's tokens."""
        return list(zip(tokens.count_many(texts), self.words.count_many(texts), strict=True))

    def fits(self, counts: tuple[int, int]) -> bool:
        """Tell whether exact counts keep both limits."""
        return counts[0] <= self.max_tokens and counts[1] <= self.model_limit


class _Splitter:
    """Finds the chunks of a window, by words where it has words, else by characters."""

    def __init__(self, meter: _Meter, overlap_tokens: int) -> None:
        self._meter = meter
        self._overlap = meter.scaled(overlap_tokens) if overlap_tokens else 0
        enough = max(int(meter.budget * _FULL_ENOUGH), self._overlap + 1)
        self._unit_sizes = _Words(lambda unit: max(meter.estimate(unit), meter.scaled(tokens.count(unit))))
        self._text_splitter = TextSplitter.from_callback(meter.estimate, (enough, meter.budget), self._overlap)

    def spans(self, text: str, window: Span) -> list[Span]:
        """Return the chunks' places in the whole text."""
        start, end = window
        piece = text[start:end]
        if _is_dense(piece):
            return [(start + first, start + last) for first, last in self._dense(piece)]
        self._meter.words.learn(piece)
        found = self._text_splitter.chunk_indices(piece)
        return [(start + offset, start + offset + len(chunk)) for offset, chunk in found]

    def _dense(self, piece: str) -> Iterator[Span]:
        """Cut a text that has no words to speak of (ideographs, base64); the splitter is 2 to 10 times slower there."""
        places: list[Span] = []
        sizes: list[int] = []
        total = 0
        for unit in _UNIT_OR_BLANK.finditer(piece):
            size = self._unit_sizes[unit[0]]
            if total + size > self._meter.budget and places:
                yield places[0][0], places[-1][1]
                keep = self._tail(sizes)
                places, sizes = places[keep:], sizes[keep:]
                total = sum(sizes)
            places.append(unit.span())
            sizes.append(size)
            total += size
        if places:
            yield places[0][0], places[-1][1]

    def _tail(self, sizes: Sequence[int]) -> int:
        """Return the index from which on the units are the next chunk's overlap."""
        total, index = 0, len(sizes)
        while index > 1 and total + sizes[index - 1] <= self._overlap:
            index -= 1
            total += sizes[index]
        return index


def _many(count: "CountTokens | Tokenizer | Cl100k") -> Callable[[list[str]], list[int]]:
    encode_batch = getattr(count, "encode_batch_fast", None)
    if encode_batch is not None:
        return lambda texts: [len(encoded.ids) for encoded in encode_batch(texts)]
    if not callable(count):
        raise TypeError("count_model_tokens is a function or a tokenizers.Tokenizer")
    return lambda texts: [count(text) for text in texts]


def _windows(text: str) -> Iterator[Span]:
    """Yield bounded pieces that cover the text, cut at the strongest boundary in the second half of each."""
    start = 0
    while len(text) - start > _WINDOW:
        end = _boundary(text, start + _WINDOW // 2, start + _WINDOW)
        yield start, end
        start = end
    yield start, len(text)


def _boundary(text: str, low: int, high: int) -> int:
    """Return where to cut between `low` and `high`: behind the last mark of the strongest kind, else at `high`."""
    for mark in _BOUNDARIES:
        found = text.rfind(mark, low, high)
        if found >= 0:
            return found + len(mark)
    return high


def _is_dense(piece: str) -> bool:
    return len(piece) > _CACHED_WORD * len(piece.split())


def _counted(text: str, spans: list[Span], meter: _Meter) -> Iterator[tuple[Span, tuple[int, int]]]:
    """Yield the spans with their exact counts; what is too long comes in halves."""
    trimmed = [span for span in (_trim(text, *span) for span in spans) if span[0] < span[1]]
    for span, counts in zip(trimmed, meter.exact([text[start:end] for start, end in trimmed]), strict=True):
        if meter.fits(counts) or span[1] - span[0] < 2:
            yield span, counts
        else:
            yield from _counted(text, _halves(text, *span), meter)


def _halves(text: str, start: int, end: int) -> list[Span]:
    quarter = (end - start) // 4
    middle = _boundary(text, start + quarter, end - quarter)
    middle = middle if start < middle < end else (start + end) // 2
    return [(start, middle), (middle, end)]


def _trim(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _section(covered: Sequence[PlacedBlock], start: int, end: int) -> str | None:
    shares: dict[str | None, int] = {}
    for placed in covered:
        share = min(placed.end, end) - max(placed.start, start)
        shares[placed.block.section] = shares.get(placed.block.section, 0) + share
    return max(shares, key=lambda section: shares[section])
