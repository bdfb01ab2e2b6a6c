"""Which chunks belong together: bounded, nearest first, the same whatever their order."""

import itertools
from uuid import UUID

import numpy as np
import pytest

from db.memory import Chunk, Holding, Relation
from pipelines.memory.grouping import MOST_MEMBERS, Bounds, Group, group

DIMENSIONS = 64
_random = np.random.default_rng(7)


def chunk(number: int, direction: int, text: str = "", *, noise: float = 0.2, tokens: int = 100) -> Chunk:
    """Make a chunk that is about a direction; of no noise its vector is the direction."""
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    vector[direction] = 1.0
    vector[20 + number % 40] += noise
    vector /= np.linalg.norm(vector)
    words = text or f"text {'abcdefghijklmnopqrstuvwxyz'[number % 26]} of its own, {'x' * number}"
    return Chunk(
        UUID(int=number), UUID(int=1), number, "", words, number.to_bytes(32), tokens, "english", vector.tolist()
    )


def relations(chunks: list[Chunk], at_least: float = 0.5) -> list[Relation]:
    """Relate all that are near."""
    vectors = {each.id: np.array(each.embedding) for each in chunks}
    pairs = itertools.permutations(vectors, 2)
    found = [Relation(one, other, float(vectors[one] @ vectors[other])) for one, other in pairs]
    return [each for each in found if each.similarity >= at_least]


def ids(groups: list[Group]) -> list[list[int]]:
    """Return the numbers of each group's chunks."""
    return [[each.int for each in made.ids] for made in groups]


def test_what_is_near_is_one_group_whatever_the_order() -> None:
    chunks = [chunk(number, number % 3) for number in range(9)]
    expected = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    for _ in range(5):
        shuffled = [chunks[place] for place in _random.permutation(9)]
        found = group(shuffled, [], relations(shuffled), Bounds())
        assert ids(found) == expected
        assert [made.sources_hash("v") for made in found] == [
            made.sources_hash("v") for made in group(chunks, [], relations(chunks), Bounds())
        ]


@pytest.mark.parametrize(("bounds", "most"), [(Bounds(sources=4), 4), (Bounds(tokens=350), 3)])
def test_groups_are_bounded(bounds: Bounds, most: int) -> None:
    chunks = [chunk(number, 0) for number in range(12)]
    found = group(chunks, [], relations(chunks), bounds)
    assert max(len(made.members) for made in found) == most
    assert sum(len(made.members) for made in found) >= 11


def test_what_is_related_to_nothing_is_no_group() -> None:
    chunks = [chunk(number, number) for number in range(5)]
    assert group(chunks, [], relations(chunks), Bounds()) == []


def test_what_says_the_same_counts_once_and_the_longest_stands_for_it() -> None:
    same = [chunk(number, 0, f"{' ' * number}The same WORDS") for number in range(4)]
    long = chunk(4, 0, "the same  words ", tokens=120)
    other = [chunk(number, 0) for number in range(5, 8)]
    [made] = group([*same, long, *other], [], relations([*same, long, *other]), Bounds(sources=4))
    assert [member.chunk.id.int for member in sorted(made.standing, key=lambda m: m.place)] == [4, 5, 6, 7]
    assert made.merged == dict.fromkeys((each.id for each in same), long.id)
    assert [into for _, into in made.sources] == [None] * 4 + [0] * 4


def test_near_texts_with_other_numbers_are_two() -> None:
    one, two = chunk(1, 0, "due on 3 May 2025", noise=0), chunk(2, 0, "due on 3 May 2026", noise=0)
    [made] = group([one, two], [], relations([one, two]), Bounds())
    assert len(made.standing) == 2
    three, four = chunk(3, 1, "the quick fox", noise=0), chunk(4, 1, "a quick fox", noise=0)
    [made] = group([three, four], [], relations([three, four]), Bounds())
    assert len(made.standing) == 1


def test_a_memory_is_a_group_that_new_chunks_join() -> None:
    old, new = [chunk(1, 0), chunk(2, 0), chunk(3, 0)], chunk(4, 0)
    holding = Holding(UUID(int=100), UUID(int=101), [each.id for each in old], [None, None, 0])
    near = [Relation(new.id, holding.chunk_id, 0.9)]
    [made] = group([*old, new], [holding], near, Bounds())
    assert (ids([made]), made.memories) == ([[1, 2, 3, 4]], [holding.id])
    assert made.merged == {UUID(int=3): UUID(int=1)}
    [alone] = group(old, [holding], [], Bounds())
    assert (ids([alone]), alone.memories) == ([[1, 2, 3]], [holding.id])


def test_a_memory_of_which_a_source_is_missing_is_left_alone() -> None:
    old, new = [chunk(1, 0), chunk(2, 0)], chunk(4, 0)
    holding = Holding(UUID(int=100), UUID(int=101), [UUID(int=1), UUID(int=2), UUID(int=3)], [None] * 3)
    near = [Relation(new.id, holding.chunk_id, 0.9), Relation(new.id, UUID(int=1), 0.9)]
    assert ids(group([*old, new], [holding], near, Bounds())) == [[1, 4]]


def test_one_more_of_the_same_leaves_the_hash_as_it_is_and_one_more_of_its_own_does_not() -> None:
    old = [chunk(1, 0), chunk(2, 0)]
    holding = Holding(UUID(int=100), UUID(int=101), [each.id for each in old], [None, None])
    [before] = group(old, [holding], [], Bounds())
    again = chunk(3, 0, old[0].text, tokens=200)
    [after] = group([*old, again], [holding], relations([*old, again]), Bounds())
    assert after.sources_hash("v") == before.sources_hash("v") != before.sources_hash("w")
    [more] = group([*old, chunk(4, 0)], [holding], relations([*old, chunk(4, 0)]), Bounds())
    assert more.sources_hash("v") != before.sources_hash("v")


def test_what_is_repeated_without_end_makes_groups_that_end() -> None:
    same = [chunk(number, 0, "again", noise=0) for number in range(MOST_MEMBERS + 40)]
    near = [Relation(one.id, other.id, 1.0) for one, other in itertools.pairwise(same)]
    found = group(same, [], near, Bounds())
    assert max(len(made.members) for made in found) <= MOST_MEMBERS
    assert sum(len(made.members) for made in found) == len(same)
