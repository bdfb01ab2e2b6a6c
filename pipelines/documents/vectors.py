"""What whoever embeds gives back, and what it may not be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]
"""One row a text."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of texts, in their order. `failures` says of those that got none why; their rows are zero.

    `tokens` is what a provider counted, `cost` what it asks for them, in whatever its price was given.
    """

    vectors: Vectors
    failures: Mapping[int, Exception] = field(default_factory=dict)
    tokens: int = 0
    cost: float = 0.0


class TextEmbedder(Protocol):
    """Whoever embeds, here or elsewhere."""

    def compute(self, texts: Sequence[str]) -> Embedded:
        """Return the L2-normalised vectors of texts."""
        ...

    def close(self) -> None:
        """End its threads, close its connections."""
        ...
