"""An embedder of the suite's own, without a model: texts that share words are near to each other."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from pipelines.documents.vectors import Embedded, Vectors

DIMENSIONS = 64


class WordVectors:
    """Adds up a vector for each word that it knows by its letters alone."""

    def compute(self, texts: Sequence[str]) -> Embedded:
        """Return the L2-normalised vectors of texts."""
        return Embedded(np.stack([self._vector(text) for text in texts]))

    def close(self) -> None:
        """Nothing is open."""

    def _vector(self, text: str) -> Vectors:
        words = re.findall(r"\w+", text.casefold()) or [""]
        found: Vectors = np.stack([_vector_of(word) for word in words]).sum(axis=0)
        normalised: Vectors = found / np.linalg.norm(found)
        return normalised


def _vector_of(word: str) -> Vectors:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    vector: Vectors = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return vector
