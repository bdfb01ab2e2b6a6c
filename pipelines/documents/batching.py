"""Which texts a model computes together: those of like length, so that little is padded, yet few batches."""

from collections.abc import Iterator, Sequence
from typing import Final

# What a batch costs beside its tokens, in tokens: 5.5 ms beside 48 µs a token, all-MiniLM-L6-v2 in bf16, one thread
# (docs/decisions/0003-embedding-settings.md). It hardly matters: half or twice as much changes the whole by 1 %.
_BATCH_COST: Final = 115


def batches(widths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the places of texts that are computed together, the widest first: at most `budget` tokens with padding.

    A text is as wide as its tokens with what it is padded to alone; one wider than the budget is a batch of its own.
    The batches are those that cost least together, each its texts times its widest and something for itself.
    """
    places = sorted(range(len(widths)), key=lambda place: -widths[place])
    # Of the first n texts: what they cost at the least, and where the last batch of those begins.
    costs, begins = [0.0], [0]
    for end in range(1, len(places) + 1):
        cost, begin = min(_last_batches(widths, places, end, budget, costs))
        costs.append(cost)
        begins.append(begin)
    found = []
    end = len(places)
    while end:
        found.append(places[begins[end] : end])
        end = begins[end]
    yield from reversed(found)


def _last_batches(
    widths: Sequence[int], places: Sequence[int], end: int, budget: int, costs: Sequence[float]
) -> Iterator[tuple[float, int]]:
    """Yield what the first texts up to `end` cost, and where their last batch begins, for each that it can be."""
    for begin in range(end - 1, -1, -1):
        tokens = widths[places[begin]] * (end - begin)
        if tokens > budget and begin < end - 1:
            return
        yield costs[begin] + tokens + _BATCH_COST, begin
