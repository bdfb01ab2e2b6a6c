"""Batches of texts: within the budget, none lost, and never dearer than filling each up to the budget."""

import itertools
import random
from collections.abc import Iterator, Sequence

from pipelines.documents.batching import batches


def padded(widths: Sequence[int], found: Sequence[Sequence[int]]) -> int:
    return sum(len(batch) * max(widths[place] for place in batch) for batch in found)


def filled(widths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches as full as they go, the widest texts first."""
    batch: list[int] = []
    for place in sorted(range(len(widths)), key=lambda place: -widths[place]):
        if batch and widths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def test_batches_keep_the_budget_and_lose_none() -> None:
    widths = [3, 250, 256, 7, 7, 90, 1, 256, 300]
    found = list(batches(widths, 512))
    assert sorted(itertools.chain(*found)) == list(range(len(widths)))
    for batch in found:
        assert len(batch) * max(widths[place] for place in batch) <= 512


def test_a_text_beyond_the_budget_is_alone_and_no_texts_are_no_batches() -> None:
    assert list(batches([600, 1], 512)) == [[0], [1]]
    assert list(batches([1, 600, 700], 512)) == [[2], [1], [0]]
    assert list(batches([], 512)) == []


def test_short_texts_are_not_padded_to_a_long_one_but_a_few_tokens_are_no_batch() -> None:
    assert list(batches([256] * 4 + [48] * 4, 2048)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(batches([256, 240, 224], 2048)) == [[0, 1, 2]]


def test_batches_are_never_dearer_than_full_ones() -> None:
    chance = random.Random(7)
    saved = 0
    for _ in range(50):
        widths = [16 * chance.randint(1, 16) for _ in range(chance.randint(1, 60))]
        found, full = list(batches(widths, 2048)), list(filled(widths, 2048))
        cost, most = (padded(widths, each) + 115 * len(each) for each in (found, full))
        assert cost <= most
        saved += most - cost
    assert saved > 0
