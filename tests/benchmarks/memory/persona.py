"""A persona that reads whole texts, is asked, and condenses what it knows: all by the pipelines as they ship."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from console.setup import create_space
from db import identity, spaces
from db import search as store
from db.connection import tenant_transaction
from db.search import Filters, Hit, QueryVector
from pipelines.documents.embedders import Embedders
from pipelines.documents.models import find_model
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue, enqueue_many
from pipelines.memory.payloads import CurateMemory
from pipelines.registry import load_registry
from pipelines.resources import Resources
from tests.benchmarks.memory.questions import Question
from tests.benchmarks.memory.texts import Text
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.factory import Factory

FIRST = 5
# So many are looked at for the condensed memory alone: what stands in a memory is passed over.
_DEPTH = 100
_CLAIMED, _CLAIM_SECONDS = 64, 600.0
_CONDENSED = """
SELECT (SELECT COALESCE(sum(token_count), 0) FROM knowledge.memories WHERE status = 'current')
    + (SELECT COALESCE(sum(c.token_count), 0) FROM knowledge.chunks c WHERE NOT c.is_curated AND NOT EXISTS (
        SELECT FROM knowledge.memory_sources s JOIN knowledge.memories m ON m.id = s.memory_id
        WHERE s.chunk_id = c.id AND m.status = 'current'))
"""
_SOURCES = """
SELECT m.chunk_id, s.chunk_id, c.text FROM knowledge.memories m
JOIN knowledge.memory_sources s ON s.memory_id = m.id JOIN knowledge.chunks c ON c.id = s.chunk_id
WHERE m.status = 'current' ORDER BY m.id, s.place
"""


@dataclass(frozen=True)
class Found:
    """Whether a question was answered by the first hits: of all, of the condensed memory alone, of hits' sources."""

    is_answered: bool
    by_condensed: bool
    by_sources: bool


class Persona:
    """One persona of the default tenant, worked on in this process."""

    def __init__(self, database: Database, resources: Resources, root: Path) -> None:
        self._database = database
        self._operator = database.connect("operator")
        self._tenant_id = identity.tenant_id_of(self._operator, "default")
        owner = database.connect()
        self._id: UUID = Factory(owner, self._tenant_id).row("assistants.personas")["id"]
        self._line = Line(database, load_registry(), resources=resources)
        self._folder = root / str(self._tenant_id)
        self._folder.mkdir()
        self._space_id = create_space(owner, find_model())
        self._embedder = resources.get(Embedders).of(spaces.active_space(owner))

    def read(self, texts: Sequence[Text]) -> dict[str, Any]:
        """Ingest texts to the end; return what they came to. Raises RuntimeError for one that cannot be read."""
        for text in texts:
            (self._folder / text.name).write_bytes(text.content)
        enqueue_many(self._operator, [IngestDocument(path=text.name, persona_id=self._id) for text in texts])
        seconds = self._work()
        with tenant_transaction(self._operator, self._tenant_id):
            store.count_terms(self._operator, self._tenant_id)
        if failed := self._database.rows("SELECT name, status FROM knowledge.documents WHERE status <> 'completed'"):
            raise RuntimeError(f"not read: {failed}")
        by_name = dict(
            self._database.rows(
                "SELECT d.name, sum(c.token_count)::integer FROM knowledge.chunks c "
                "JOIN knowledge.documents d ON d.id = c.document_id GROUP BY d.name"
            )
        )
        tokens = sum(by_name.values())
        doubles = sum(by_name[text.name] for text in texts if text.is_double)
        chunks = self._database.value("SELECT count(*) FROM knowledge.chunks")
        return {
            "texts": len(texts),
            "chunks": chunks,
            "tokens": tokens,
            "share_of_doubles": round(doubles / tokens, 3),
            "seconds": round(seconds, 1),
        }

    def holds(self, question: Question) -> bool:
        """Tell whether a chunk that was read answers a question."""
        texts = self._database.rows("SELECT text FROM knowledge.chunks WHERE NOT is_curated")
        return question.is_answered_by(text for (text,) in texts)

    def condense(self) -> dict[str, Any]:
        """Curate to the end; return what is left. Raises RuntimeError if a task failed."""
        before = self._database.value("SELECT sum(token_count)::integer FROM knowledge.chunks WHERE NOT is_curated")
        enqueue(self._operator, CurateMemory(persona_id=self._id), tenant_id=self._tenant_id)
        seconds = self._work()
        failed = self._database.rows("SELECT task_type, last_error FROM queue.outbox_tasks WHERE status = 'failed'")
        if failed:
            raise RuntimeError(f"failed: {failed}")
        after = int(self._database.value(_CONDENSED))
        methods = "SELECT method, count(*)::integer FROM knowledge.memories WHERE status = 'current' GROUP BY method"
        return {
            "memories": dict(self._database.rows(methods)),
            "tokens_before": before,
            "tokens_after": after,
            "reduction": round(1 - after / before, 3),
            "seconds": round(seconds, 1),
        }

    def ask(self, questions: Sequence[Question]) -> list[Found]:
        """Return what is found for each question, by the search as it is by default."""
        sources: dict[UUID, list[str]] = {}
        condensed: set[UUID] = set()
        for memory, chunk, text in self._database.rows(_SOURCES):
            sources.setdefault(memory, []).append(text)
            condensed.add(chunk)
        vectors = self._embedder.compute([each.question for each in questions]).vectors
        found = []
        for each, row in zip(questions, vectors, strict=True):
            hits = self._search(each.question, "[" + ",".join(map(str, row.tolist())) + "]")
            first, alone = hits[:FIRST], [hit for hit in hits if hit.chunk_id not in condensed][:FIRST]
            expanded = [text for hit in first for text in [hit.text, *sources.get(hit.chunk_id, ())]]
            found.append(
                Found(
                    each.is_answered_by(hit.text for hit in first),
                    each.is_answered_by(hit.text for hit in alone),
                    each.is_answered_by(expanded),
                )
            )
        return found

    def _search(self, text: str, vector: str) -> list[Hit]:
        """Return so many hits that the first ones are those of a search for five: a limit changes no order."""
        filters = Filters(persona_id=self._id)
        with tenant_transaction(self._operator, self._tenant_id):
            wanted = QueryVector(self._space_id, vector)
            few, many = (
                store.search(
                    self._operator, self._tenant_id, text, wanted, strategy="hybrid", limit=limit, filters=filters
                )
                for limit in (FIRST, _DEPTH)
            )
        known = {hit.chunk_id for hit in few}
        return few + [hit for hit in many if hit.chunk_id not in known]

    def _work(self) -> float:
        started = time.monotonic()
        while claims := self._line.claim(_CLAIMED, claim_seconds=_CLAIM_SECONDS):
            self._line.run(claims)
            sys.stderr.write(f"{time.monotonic() - started:.0f} s: {len(claims)} tasks\n")
        return time.monotonic() - started
