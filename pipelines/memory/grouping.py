"""Which chunks belong together: groups of what is near in meaning, bounded, and the same whatever order they come in.

Groups grow from the nearest pair on (agglomerative, by centroids): two become one while what they say on the whole is
near enough and what has to be summed up stays within bounds. A memory that is there is a group already, of the chunks
that it was made of. Of sources that are nearly equal one stands for the others, and counts alone.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import numpy as np

from db.memory import Chunk, Holding, Relation

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]
MOST_MEMBERS: Final = 256
"""Of a group, those that others stand for included."""
_SPACES: Final = re.compile(r"\s+")
_NUMBERS: Final = re.compile(r"\w*\d[\w.,:/-]*")


@dataclass(frozen=True, slots=True)
class Bounds:
    """When chunks belong together, by the cosine of their vectors, and how much may.

    `same` is from when on two say the same, if they name the same numbers. `sources` and `tokens` (cl100k_base) bound
    what is summed up together, not counting what another stands for.
    """

    similarity: float = 0.55
    same: float = 0.97
    sources: int = 8
    tokens: int = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A chunk in a group, with its vector (L2-normalised)."""

    chunk: Chunk
    vector: Vector

    @classmethod
    def of(cls, chunk: Chunk) -> "Member":
        """Return a chunk as it is grouped."""
        return cls(chunk, np.asarray(chunk.embedding, dtype=np.float32))

    def says_the_same(self, other: "Member", same: float) -> bool:
        """Tell whether one of the two can stand for both."""
        mine, theirs = _plain(self.chunk.text), _plain(other.chunk.text)
        if mine == theirs:
            return True
        is_near = float(self.vector @ other.vector) >= same
        return is_near and set(_NUMBERS.findall(mine)) == set(_NUMBERS.findall(theirs))

    @property
    def place(self) -> tuple[UUID, int]:
        """Where it stands: the older document first, and its chunks in their order."""
        return self.chunk.document_id, self.chunk.chunk_index

    @property
    def rank(self) -> tuple[int, tuple[UUID, int]]:
        """Of two that say the same the first stands for both: the longer one, then the older."""
        return -self.chunk.token_count, self.place


@dataclass(eq=False)
class Group:
    """Chunks that belong together.

    `standing` are those that stand for themselves, `merged` says of the others who stands for them; `memories` are
    those that were made of some of them.
    """

    standing: list[Member]
    merged: dict[UUID, UUID] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    memories: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Have who stands for itself be a member."""
        self.members = self.members or list(self.standing)

    @property
    def key(self) -> UUID:
        """What tells the group from others."""
        return min(member.chunk.id for member in self.members)

    @property
    def ids(self) -> list[UUID]:
        """The chunks, by their keys."""
        return sorted(member.chunk.id for member in self.members)

    @property
    def tokens(self) -> int:
        """Of what would be summed up."""
        return sum(member.chunk.token_count for member in self.standing)

    @property
    def centre(self) -> Vector:
        """The direction of what would be summed up, of length one."""
        total: Vector = np.sum([member.vector for member in self.standing], axis=0)
        return total / float(np.linalg.norm(total) or 1.0)

    @property
    def sources(self) -> list[tuple[Chunk, int | None]]:
        """Its chunks, those that stand for themselves first; each with the place of who stands for it."""
        first = sorted(self.standing, key=lambda member: member.place)
        places = {member.chunk.id: place for place, member in enumerate(first)}
        others = sorted((m for m in self.members if m.chunk.id in self.merged), key=lambda member: member.place)
        return [(m.chunk, None) for m in first] + [(m.chunk, places[self.merged[m.chunk.id]]) for m in others]

    def joined(self, other: "Group", same: float) -> "Group":
        """Return both as one; who stands for itself in a memory goes on to."""
        first, second = sorted((self, other), key=lambda group: (not group.memories, group.key))
        standing, merged = list(first.standing), {**first.merged, **second.merged}
        for member in sorted(second.standing, key=lambda each: each.rank):
            equal = next((each for each in standing if each.says_the_same(member, same)), None)
            if equal is None:
                standing.append(member)
                continue
            winner, loser = (equal, member) if first.memories else sorted((equal, member), key=lambda each: each.rank)
            standing[standing.index(equal)] = winner
            merged = {who: winner.chunk.id if into == loser.chunk.id else into for who, into in merged.items()}
            merged[loser.chunk.id] = winner.chunk.id
        memories = sorted({*first.memories, *second.memories})
        return Group(standing, merged, [*first.members, *second.members], memories)

    def sources_hash(self, version: str) -> bytes:
        """Return what a memory of these sources, made in that way, is known by."""
        hashed = hashlib.sha256(version.encode())
        for text_hash in sorted({member.chunk.text_hash for member in self.standing}):
            hashed.update(text_hash)
        return hashed.digest()


def group(
    chunks: Sequence[Chunk], holdings: Sequence[Holding], relations: Sequence[Relation], bounds: Bounds
) -> list[Group]:
    """Return all groups of more than one chunk that the relations lead to, by their keys.

    `chunks` are all that `relations` and `holdings` name, as far as searches find them; a memory of which a source is
    missing is left alone.
    """
    members = {chunk.id: Member.of(chunk) for chunk in chunks}
    groups: dict[UUID, Group] = {}
    for holding in holdings:
        if all(source in members for source in holding.source_ids):
            made = _of_memory(holding, members)
            groups |= dict.fromkeys((holding.chunk_id, *holding.source_ids), made)
    for chunk_id, member in members.items():
        groups.setdefault(chunk_id, Group([member]))
    for relation in sorted(relations, key=_nearest_first):
        one, other = groups.get(relation.chunk_id), groups.get(relation.related_id)
        if one is None or other is None or one is other or not _may_join(one, other, bounds):
            continue
        whole = one.joined(other, bounds.same)
        if len(whole.standing) <= bounds.sources and whole.tokens <= bounds.tokens:
            groups = {who: whole if each is one or each is other else each for who, each in groups.items()}
    distinct = {id(each): each for each in groups.values() if len(each.members) > 1}
    return sorted(distinct.values(), key=lambda each: each.key)


def _of_memory(holding: Holding, members: dict[UUID, Member]) -> Group:
    """Return the group that a memory is, as it was made."""
    own = [members[source] for source in holding.source_ids]
    merged = {
        member.chunk.id: holding.source_ids[into]
        for member, into in zip(own, holding.merged_into, strict=True)
        if into is not None
    }
    return Group([each for each in own if each.chunk.id not in merged], merged, own, [holding.id])


def _may_join(one: Group, other: Group, bounds: Bounds) -> bool:
    is_small = len(one.members) + len(other.members) <= MOST_MEMBERS
    return is_small and float(one.centre @ other.centre) >= bounds.similarity


def _nearest_first(relation: Relation) -> tuple[float, UUID, UUID]:
    pair = sorted((relation.chunk_id, relation.related_id))
    return -round(relation.similarity, 4), pair[0], pair[1]


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip().casefold()
