"""What is summarised, what it comes to, and the one method of whoever does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import numpy as np

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One chunk: its text, its L2-normalised vector in the space of its persona's memory, its tokens (cl100k_base)."""

    chunk_id: UUID
    text: str
    vector: Vector
    token_count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What sources come to.

    `method` says who wrote it; `model` is None where no chat model was asked; `cost` (USD) is what asking it cost, its
    answer taken or not. `origins` holds each sentence's chunk, in their order, where that is known.
    """

    text: str
    method: str
    model: str | None
    prompt_version: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)
    origins: tuple[UUID, ...] = ()


class Summariser(Protocol):
    """Whoever summarises. Safe to use from many threads."""

    @property
    def version(self) -> str:
        """What tells its summaries from those of another way to make them: part of what a memory is known by."""
        ...

    def summarise(self, sources: Sequence[Source]) -> Summary:
        """Return what sources come to, a text that is not empty; the same for the same sources, if it can.

        Takes seconds: call it with no transaction open. Raises ValueError for no sources, RateLimitedError where a
        provider refuses for now, RetryableError where it does not answer, PermanentError where its settings are wrong.
        """
        ...
