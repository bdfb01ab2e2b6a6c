"""A summary of the sources' own sentences, chosen by their vectors; on this machine, with nothing downloaded.

A sentence is worth what it says of the whole, and less the nearer it is to one that was chosen: maximal marginal
relevance (J. Carbonell, J. Goldstein, "The Use of MMR, Diversity-Based Reranking …", SIGIR 1998), with the centroid of
the sources for the query (G. Rossiello, P. Basile, G. Semeraro, "Centroid-based Text Summarization through
Compositionality of Word Embeddings", MultiLing 2017). What names something weighs more: facts are what is asked for
later. The figures are those of docs/memory.md.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np

from pipelines.documents.tokens import count_many
from pipelines.documents.vectors import TextEmbedder, Vectors
from pipelines.memory.summarising.base import Source, Summary
from pipelines.memory.summarising.sentences import sentences_of

METHOD: Final = "extractive"
PROMPT_VERSION: Final = "1"
# What nearness to the centroid counts, the rest is newness.
_CENTRAL: Final = 0.6
# Two sentences of one meaning, for the packaged model; only the one that says more is kept.
_SAME: Final = 0.95
# A sentence that names as much as it can is worth so much more.
_NAMING: Final = 0.5
_ENOUGH_NAMED: Final = 3
# Digits, words with a capital inside of the sentence, identifiers, addresses.
_NAMED: Final = re.compile(r"\d[\d.,:/-]*|(?<=[\w,;] )[^\W\d_a-z][\w-]+|\w+[/_@.=]\w[\w/.@_=-]*|(?<=\s)/\w[\w/.-]*")
_KEY: Final = re.compile(r"[\W_]+")
Fits = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    chunk_id: UUID
    tokens: int

    @property
    def weight(self) -> float:
        """1 for a sentence that names nothing, up to 1 + _NAMING."""
        return 1 + _NAMING * min(len(_NAMED.findall(self.text)), _ENOUGH_NAMED) / _ENOUGH_NAMED


class Extractive:
    """Chooses sentences of the sources, at most `share` of their tokens (cl100k_base), in the order they stand in.

    `fits` tells whether the model of the space reads a text whole: what it would cut is not written.
    """

    def __init__(self, embedder: TextEmbedder, *, share: float, fits: Fits = lambda text: True) -> None:
        self._embedder = embedder
        self._share = share
        self._fits = fits

    @property
    def version(self) -> str:
        """Changes with the rule and with the share."""
        return f"{PROMPT_VERSION}:{self._share:g}"

    def summarise(self, sources: Sequence[Source]) -> Summary:
        """Return the sentences that say most, and never the same twice; at least one.

        Raises what the embedder does: the first failure of a sentence, RateLimitedError where it refuses for now.
        """
        centroid, sentences = centroid_of(sources), _sentences(sources)
        vectors = self.vectors([sentence.text for sentence in sentences])
        chosen = self._chosen(sentences, vectors, centroid, self._budget(sources))
        return Summary(
            text=_joined([sentences[place] for place in chosen]),
            method=METHOD,
            model=None,
            prompt_version=self.version,
            origins=tuple(sentences[place].chunk_id for place in chosen),
        )

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return the L2-normalised vectors of texts; raises the first failure."""
        embedded = self._embedder.compute(texts)
        for failure in embedded.failures.values():
            raise failure
        return embedded.vectors

    def _budget(self, sources: Sequence[Source]) -> int:
        return int(self._share * sum(source.token_count for source in sources))

    def _chosen(
        self, sentences: Sequence[_Sentence], vectors: Vectors, centroid: Vectors, budget: int
    ) -> Sequence[int]:
        """Return the places of the sentences that are kept, in their order."""
        central = np.round(vectors @ centroid, 4) * np.array([sentence.weight for sentence in sentences])
        alike = np.round(vectors @ vectors.T, 4)
        nearest = np.zeros(len(sentences))
        open_places = set(range(len(sentences)))
        chosen: list[int] = []
        spent = 0
        while open_places:
            gains = _CENTRAL * central - (1 - _CENTRAL) * nearest
            place = max(open_places, key=lambda place: (gains[place], -place))
            open_places.discard(place)
            tokens = sentences[place].tokens
            if chosen and (
                nearest[place] >= _SAME or spent + tokens > budget or not self._fit(sentences, chosen, place)
            ):
                continue
            chosen.append(place)
            spent += tokens
            nearest = np.maximum(nearest, alike[place])
        return sorted(chosen)

    def _fit(self, sentences: Sequence[_Sentence], chosen: Sequence[int], place: int) -> bool:
        return self._fits(_joined([sentences[each] for each in sorted([*chosen, place])]))


def centroid_of(sources: Sequence[Source]) -> Vectors:
    """Return the direction of the sources together, each by its tokens. Raises ValueError for no sources."""
    if not sources:
        raise ValueError("nothing to summarise")
    weights = np.array([source.token_count for source in sources], dtype=np.float32)
    total = weights @ np.stack([source.vector for source in sources])
    centroid: Vectors = total / (np.linalg.norm(total) or 1.0)
    return centroid


def _sentences(sources: Sequence[Source]) -> list[_Sentence]:
    """Return the sources' sentences, each once whatever its case and punctuation."""
    found: dict[str, tuple[str, UUID]] = {}
    for source in sources:
        for text in sentences_of(source.text) or [source.text]:
            found.setdefault(_KEY.sub(" ", text.casefold()).strip() or text, (text, source.chunk_id))
    tokens = count_many([text for text, _ in found.values()])
    return [_Sentence(*each, tokens=number) for each, number in zip(found.values(), tokens, strict=True)]


def _joined(sentences: Sequence[_Sentence]) -> str:
    """Return sentences as a text: a source's in a row, sources apart."""
    lines: dict[UUID, list[str]] = {}
    for sentence in sentences:
        lines.setdefault(sentence.chunk_id, []).append(sentence.text)
    return "\n".join(" ".join(line) for line in lines.values())
