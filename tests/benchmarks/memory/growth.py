"""The command: `python -m tests.benchmarks.memory.growth [SIZE]...`: what new chunks cost to curate among few and many.

Curates a hundred new chunks of a persona and prints JSON: the seconds of the whole attempt, in which the packaged model
sums up, and of what Postgres does of it. Vectors are drawn around as many centres as there are chunks by four, so that
each new chunk has four that are near to it.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector

from core import events
from core.settings import load_settings
from db.spaces import build_index, get_space
from pipelines.memory.payloads import CurateMemory
from tests.integration.documents.shared import Shared
from tests.integration.memory.remembering import CURATE, REGISTRY, Remembering
from tests.support.database import Database, cloned, fast_server, migrate_template
from workers.testing import run_task

NEW, NEAR, DIMENSIONS = 100, 4, 384
_TEXT = (
    "Note {n} says that vessel {n} has berth {m} at the quay. Its master asked for fresh water and for {k} metres of "
    "rope. The harbour office has written that down in the book of this week."
)
_DOCUMENT = """
INSERT INTO knowledge.documents (tenant_id, persona_id, name, current_version, next_version, status)
VALUES (%s, %s, 'notes', 1, 1, 'completed') RETURNING id
"""
_CHUNKS = """
INSERT INTO knowledge.chunks (id, tenant_id, document_id, persona_id, version, chunk_index, text, text_hash,
    token_count, start_offset, end_offset, curated_at)
SELECT u.id, %(tenant)s, %(document)s, %(persona)s, 1, u.place, u.text, sha256(convert_to(u.text, 'UTF8')), 45, 0, 1,
    CASE WHEN %(considered)s THEN now() END
FROM unnest(%(ids)s::uuid[], %(places)s::integer[], %(texts)s::text[]) AS u (id, place, text)
"""
_TOTALS = """
INSERT INTO knowledge.term_totals (tenant_id, language, chunk_count, term_count) VALUES (%s, 'english', %s, %s)
"""
_VECTORS = "COPY knowledge.{} (space_id, chunk_id, tenant_id, embedding) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True)
class Case:
    """So many chunks that the persona has, and so many that others have."""

    own: int
    others: int


CASES = (Case(1_000, 0), Case(10_000, 0), Case(100_000, 0), Case(1_000, 99_000))


class Filling:
    """Chunks with drawn vectors, written past triggers and into a space without its index."""

    def __init__(self, memory: Remembering, superuser: psycopg.Connection[Any]) -> None:
        self.memory, self.superuser = memory, superuser
        self._random = np.random.default_rng(20261124)
        self.leaf = f"chunk_vectors_{memory.space_id.hex}"

    def centres(self, count: int) -> np.ndarray[Any, Any]:
        """Draw directions."""
        return self._random.standard_normal((count, DIMENSIONS)).astype(np.float32)

    def add(self, persona: UUID, centres: np.ndarray[Any, Any], count: int, *, considered: bool) -> None:
        """Write so many chunks of a persona, in turn around each centre."""
        row = self.superuser.execute(_DOCUMENT, (self.memory.tenant_id, persona)).fetchone()
        assert row is not None
        ids = [UUID(bytes=self._random.bytes(16)) for _ in range(count)]
        values = {
            "tenant": self.memory.tenant_id,
            "document": row[0],
            "persona": persona,
            "considered": considered,
            "ids": ids,
            "places": list(range(count)),
            "texts": [_TEXT.format(n=n, m=n % 37, k=n % 91) for n in range(count)],
        }
        self.superuser.execute(_CHUNKS, values)
        around = centres[np.arange(count) % len(centres)]
        drawn = around + 0.45 * self._random.standard_normal(around.shape).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        with self.superuser.cursor().copy(_VECTORS.format(self.leaf).encode()) as copy:
            copy.set_types(["uuid", "uuid", "uuid", "vector"])
            for chunk_id, vector in zip(ids, drawn, strict=True):
                copy.write_row((self.memory.space_id, chunk_id, self.memory.tenant_id, Vector(vector)))


def fill(memory: Remembering, case: Case) -> UUID:
    """Fill a database as a case says, with what is new; return the persona."""
    persona, other = memory.persona(), memory.persona("Bob")
    with psycopg.connect(memory.database.superuser_url, autocommit=True) as superuser:
        register_vector(superuser)
        superuser.execute("SET session_replication_role = replica")
        filling = Filling(memory, superuser)
        superuser.execute(f"DROP INDEX knowledge.{filling.leaf}_embedding_idx".encode())
        centres = filling.centres(case.own // NEAR)
        filling.add(persona, centres, case.own, considered=True)
        if case.others:
            filling.add(other, filling.centres(case.others // NEAR), case.others, considered=True)
        filling.add(persona, centres[:NEW], NEW, considered=False)
        superuser.execute(
            _TOTALS,
            (memory.tenant_id, case.own + case.others + NEW, 30 * (case.own + case.others + NEW)),
        )
        superuser.execute("ANALYZE")
    owner = memory.database.connect()
    space = get_space(owner, memory.space_id)
    assert space is not None
    build_index(owner, space, "1GB")
    return persona


@contextmanager
def stores() -> Iterator[list[events.StoreCalled]]:
    """Collect the calls of statements."""
    found: list[events.StoreCalled] = []

    def keep(event: events.Event) -> None:
        if isinstance(event, events.StoreCalled):
            found.append(event)

    forget = events.subscribe(keep)
    try:
        yield found
    finally:
        forget()


def measure(database: Database, shared: Shared, case: Case) -> dict[str, Any]:
    """Curate what is new in a case; return what it took."""
    resources = shared.resources(load_settings(_env_file=None))
    memory = Remembering(database, resources, shared)
    persona = fill(memory, case)
    with stores() as called:
        started = time.perf_counter()
        run = run_task(
            database,
            CURATE,
            CurateMemory(persona_id=persona),
            registry=REGISTRY,
            resources=resources,
            tenant_id=memory.tenant_id,
        )
        whole = time.perf_counter() - started
    assert run.outcome == "snooze", run.error
    by_name: dict[str, float] = {}
    for call in called:
        by_name[call.query] = by_name.get(call.query, 0.0) + call.seconds
    reading = sum(by_name.get(f"memory.{name}", 0.0) for name in ("due", "related", "holding", "chunks", "known"))
    own = sum(seconds for name, seconds in by_name.items() if name.startswith("memory."))
    return {
        "own": case.own,
        "others": case.others,
        "memories": memory.counts(persona).current,
        "seconds": round(whole, 2),
        "reading": round(reading, 3),
        "related": round(by_name.get("memory.related", 0.0), 3),
        "writing": round(own - reading + by_name.get("documents.insert_vectors", 0.0), 3),
    }


def main() -> None:
    """Measure all cases, or those of the sizes that are given."""
    wanted = {int(size) for size in sys.argv[1:]}
    shared = Shared()
    shared.embedder().embed(["warm"])
    with fast_server() as server:
        template = migrate_template(server)
        for case in CASES:
            if not wanted or case.own + case.others in wanted:
                with cloned(server, template) as database:
                    sys.stdout.write(json.dumps(measure(database, shared, case)) + "\n")
                    sys.stdout.flush()
    shared.close()


if __name__ == "__main__":
    main()
