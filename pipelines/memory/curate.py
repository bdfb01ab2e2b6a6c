"""`memory.curate`: a page of a persona's new chunks, with what is near to them, becomes memories.

A page is read, then computed with no transaction open, then written in the one that ends the attempt, as far as all
that it was made of is there still; the next page is the next attempt's. What nobody wrote is found as due again, so it
goes on wherever it was killed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from pgvector import Vector

from core.errors import PermanentError
from db import memory, spaces, standings
from db.memory import Chunk, Known, Writing
from db.spaces import Slice, Space
from pipelines.documents.embedders import Embedders
from pipelines.documents.terms import enqueue_count
from pipelines.documents.tokens import count
from pipelines.documents.versions import enqueue_slices
from pipelines.memory.grouping import Bounds, Group, group
from pipelines.memory.payloads import CurateMemory
from pipelines.memory.summarising import Source, Summariser, Summary
from pipelines.memory.summarising.booking import book
from pipelines.memory.summarising.summarisers import Summarisers
from pipelines.outcomes import Apply, Done, Outcome, Snooze
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

_PAUSE = timedelta(seconds=1)
"""After a page of which somebody held a chunk."""
MERGED = "merged"
"""The method of a memory whose sources are nearly equal: it is one of them."""


@dataclass(frozen=True, slots=True)
class Curation:
    """How curation goes about a page: how many new chunks it has, and how many near ones of each are looked at."""

    page: int
    nearest: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a curation is, in chunks and memories; `held` says that somebody held a chunk of the last page."""

    considered: int = 0
    written: int = 0
    superseded: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    """New chunks, the groups that these and others make, and which memories there are of the same sources."""

    due: list[Chunk]
    groups: list[Group]
    known: dict[bytes, Known]


def curate(context: TaskContext, payload: CurateMemory) -> Outcome:
    """Curate the next page; done when nothing is due that has a vector."""
    tenant_id, how = context.require_tenant_id(), context.resources.get(Curation)
    with context.read() as transaction:
        standing = Standing(**standings.read(transaction.connection, context.task_id, "curating"))
        space = spaces.active_space(transaction.connection)
        due = memory.due(transaction.connection, payload.persona_id, space.id, how.page)
    if not due:
        return Done({"considered": standing.considered, "written": standing.written, "superseded": standing.superseded})
    summariser = context.resources.get(Summarisers).of(space)
    done = standing.considered / (standing.considered + len(due))
    context.progress(done, f"{standing.considered} chunks considered, {standing.written} memories")
    with context.read() as transaction:
        page = _read(transaction, tenant_id, payload.persona_id, space, due, how, summariser.version)
    texts, summaries = _texts(page, summariser)
    writings = _writings(context, space, page, texts)
    writing = _writing_page(context, payload.persona_id, space, page, writings, standing)

    def apply(transaction: Transaction) -> None:
        book(transaction.connection, tenant_id, payload.persona_id, summaries)
        writing(transaction)

    return Snooze(_PAUSE if standing.held else timedelta(0), apply)


def _read(
    transaction: Transaction,
    tenant_id: UUID,
    persona_id: UUID,
    space: Space,
    due: list[Chunk],
    how: Curation,
    version: str,
) -> _Page:
    """Read what is near to new chunks, and group it; only groups with a new chunk are of the page."""
    connection, found = transaction.connection, {chunk.id: chunk for chunk in due}
    relations = memory.related(
        connection,
        tenant_id,
        persona_id,
        space.id,
        list(found),
        nearest=how.nearest,
        at_least=how.bounds.similarity,
    )
    holdings = memory.holding(connection, list({*found, *(relation.related_id for relation in relations)}))
    named = {relation.related_id for relation in relations}.union(*(each.source_ids for each in holdings))
    others = memory.chunks(connection, persona_id, space.id, list(named - found.keys()))
    groups = group([*due, *others], holdings, relations, how.bounds)
    changed = [each for each in groups if not found.keys().isdisjoint(each.ids)]
    known = memory.known(connection, persona_id, [each.sources_hash(version) for each in changed])
    return _Page(due, changed, known)


@dataclass(frozen=True, slots=True)
class _Text:
    """What a group comes to, and how."""

    header: str
    text: str
    method: str = MERGED
    model: str | None = None
    prompt_version: str = ""


_Texts = dict[bytes, tuple[Group, _Text]]
"""By the hash of their sources."""


def _texts(page: _Page, summariser: Summariser) -> tuple[_Texts, list[Summary]]:
    """Return what the page's groups come to, and the summaries that were made for that.

    What would save nothing is left out, and so is what there is already: where a text is repeated more often than a
    memory has sources, the rest of its chunks stay as they are.
    """
    texts: _Texts = {}
    summaries: list[Summary] = []
    for made in page.groups:
        sources_hash = made.sources_hash(summariser.version)
        known = page.known.get(sources_hash)
        if sources_hash in texts or (known is not None and known.is_current and known.id not in made.memories):
            continue
        if known is not None:
            found = _Text(known.header, known.text)
        elif len(made.standing) == 1:
            found = _Text(made.standing[0].chunk.header, made.standing[0].chunk.text)
        else:
            summaries.append(summary := summariser.summarise(_sources(made)))
            found = _Text(_common_header(made), summary.text, summary.method, summary.model, summary.prompt_version)
        if found.text.strip() and count(found.text) < sum(member.chunk.token_count for member in made.members):
            texts[sources_hash] = made, found
    return texts, summaries


def _sources(made: Group) -> list[Source]:
    in_order = sorted(made.standing, key=lambda member: member.place)
    return [Source(m.chunk.id, m.chunk.text, m.vector, m.chunk.token_count) for m in in_order]


def _writings(context: TaskContext, space: Space, page: _Page, texts: _Texts) -> list[Writing]:
    """Return the memories of these texts, with their vectors."""
    vectors = _vectors(context, space, [found for _, found in texts.values()])
    return [
        Writing(
            sources=made.sources,
            supersedes=made.memories,
            sources_hash=sources_hash,
            known_id=page.known[sources_hash].id if sources_hash in page.known else None,
            token_count=count(found.text),
            vector=vector,
            **asdict(found),
        )
        for (sources_hash, (made, found)), vector in zip(texts.items(), vectors, strict=True)
        if vector is not None
    ]


def _common_header(made: Group) -> str:
    headers = {member.chunk.header for member in made.standing}
    return headers.pop() if len(headers) == 1 else ""


def _vectors(context: TaskContext, space: Space, texts: Sequence[_Text]) -> list[Vector | None]:
    """Return the texts' vectors, None for one that the model refuses for good. Raises what else befalls it."""
    if not texts:
        return []
    whole = [f"{each.header}\n{each.text}" if each.header else each.text for each in texts]
    embedded = context.resources.get(Embedders).of(space).compute(whole)
    for failure in embedded.failures.values():
        if not isinstance(failure, PermanentError):
            raise failure
    return [None if place in embedded.failures else Vector(embedded.vectors[place]) for place in range(len(texts))]


def _writing_page(
    context: TaskContext,
    persona_id: UUID,
    space: Space,
    page: _Page,
    writings: Sequence[Writing],
    standing: Standing,
) -> Apply:
    """Return what writes a page, as far as it stands on what is there still, and notes how far that came."""
    tenant_id = context.require_tenant_id()
    members = {chunk_id for each in page.groups for chunk_id in each.ids} | {chunk.id for chunk in page.due}

    def apply(transaction: Transaction) -> None:
        connection = transaction.connection
        if not memory.lock(connection, persona_id, space.id):
            return  # the persona went, or another space is searched: the next attempt sees that
        there = memory.present(connection, persona_id, list(members))
        current = memory.current(connection, [each for writing in writings for each in writing.supersedes])
        whole = [each for each in writings if there.issuperset(each.chunk_ids) and current.issuperset(each.supersedes)]
        places = [memory.write(connection, tenant_id, persona_id, space.id, each) for each in whole]
        left_out = {chunk_id for each in writings if each not in whole for chunk_id in each.chunk_ids}
        memory.mark(connection, list(there - left_out))
        _embed_beside(transaction, tenant_id, [place for place in places if place is not None])
        reached = Standing(
            considered=standing.considered + sum(chunk.id in there - left_out for chunk in page.due),
            written=standing.written + sum(place is not None for place in places),
            superseded=standing.superseded + sum(len(each.supersedes) for each in whole if each.known_id is None),
            held=len(there) < len(members) or bool(left_out),
        )
        standings.note(connection, context.task_id, "curating", asdict(reached))
        if any(places):
            enqueue_count(transaction)

    return apply


def _embed_beside(transaction: Transaction, tenant_id: UUID, places: Sequence[memory.Place]) -> None:
    """Have the spaces that nobody searches yet get the new memories' vectors, too."""
    slices = [
        Slice(
            tenant_id,
            document_id,
            memory.SHOWN_VERSION,
            [p.chunk_index for p in places if p.document_id == document_id],
        )
        for document_id in sorted({place.document_id for place in places})
    ]
    for space in spaces.kept(transaction.connection):
        if slices and not space.is_active:
            enqueue_slices(transaction, space, slices)
