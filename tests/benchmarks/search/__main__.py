"""The command: `python -m tests.benchmarks.search FOLDER`, a folder of a manual's HTML pages with a bookindex.html.

Ingests the pages through the pipeline as it ships, asks each of the index's entries by each strategy, and prints JSON.
Ends with status 1 unless the hybrid has a better mean reciprocal rank than everything beside it.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from console.setup import create_space
from core.settings import load_settings
from db import identity, spaces
from db import search as store
from db.connection import Connection, tenant_transaction
from db.search import QueryVector
from pipelines.documents.embedders import Embedders
from pipelines.documents.models import find_model
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue_many
from pipelines.registry import load_registry, provide_resources
from pipelines.resources import Resources
from tests.benchmarks.search.manual import Query, pages_of, queries_of
from tests.benchmarks.search.splitters import split_by_langchain
from tests.support.database import Database, cloned, fast_server, migrate_template
from tests.support.engine import Line

_DEPTH = 20
_POOL = 50
_CLAIMED, _CLAIM_SECONDS = 64, 600.0
Ranked = list[tuple[UUID, str, float, float]]
"""Chunk, page, cosine, words; best first."""

# What the lexical side was before: full text weighed by ts_rank, any of the query's words.
_TS_RANK = """
SELECT c.id, d.name, 0.0, ts_rank(c.lexemes, q.query, 1)::double precision AS weight
FROM (SELECT NULLIF(replace(plainto_tsquery('english', %s)::text, '&', '|'), '')::tsquery AS query) q
JOIN knowledge.chunks c ON c.lexemes @@ q.query JOIN knowledge.documents d ON d.id = c.document_id
ORDER BY weight DESC, c.id LIMIT %s
"""
_LEXEMES = (
    "ALTER TABLE knowledge.chunks ADD COLUMN lexemes tsvector "
    "GENERATED ALWAYS AS (to_tsvector('english', header || ' ' || text)) STORED",
    "CREATE INDEX ON knowledge.chunks USING gin (lexemes)",
    "ANALYZE",
)


def main() -> None:
    """Ingest, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--header", default=None, help="another template of chunks' headers")
    parser.add_argument("--langchain", type=Path, help="split by LangChain's splitter, of this site-packages, instead")
    options = parser.parse_args()
    if options.langchain:
        split_by_langchain(options.langchain)
    pages, queries = pages_of(options.folder), queries_of(options.folder, options.queries)
    with (
        fast_server() as server,
        cloned(server, migrate_template(server)) as database,
        tempfile.TemporaryDirectory() as root,
    ):
        given = {} if options.header is None else {"documents": {"chunk_header": options.header}}
        settings = load_settings(_env_file=None, storage={"root": root}, **given)
        resources = provide_resources(Resources(), settings)
        library = _Bench(database, resources, Path(root))
        ingested = library.ingest(pages)
        figures = library.ask(queries)
        resources.close()
    run = {"pages": len(pages), "queries": len(queries), "depth": _DEPTH} | ingested | {"strategies": figures}
    sys.stdout.write(json.dumps(run, indent=2) + "\n")
    best = max(figures, key=lambda name: figures[name]["mrr"])
    if best != "hybrid":
        raise SystemExit(f"the hybrid finds worse than {best}")


class _Bench:
    """One tenant's library of the manual's pages."""

    def __init__(self, database: Database, resources: Resources, root: Path) -> None:
        self._database = database
        self._owner = database.connect()
        self._connection = database.connect("operator")
        self._tenant_id = identity.tenant_id_of(self._connection, "default")
        self._line = Line(database, load_registry(), resources=resources)
        self._root = root
        self._space_id = create_space(self._owner, find_model())
        self._embedder = resources.get(Embedders).of(spaces.active_space(self._owner))

    def ingest(self, pages: Sequence[Path]) -> dict[str, Any]:
        """Ingest pages to the end; return chunks and seconds."""
        folder = self._root / str(self._tenant_id)
        folder.mkdir()
        for page in pages:
            shutil.copy(page, folder / page.name)
        started = time.monotonic()
        enqueue_many(self._connection, [IngestDocument(path=page.name) for page in pages])
        while claims := self._line.claim(_CLAIMED, claim_seconds=_CLAIM_SECONDS):
            self._line.run(claims)
            _tell(f"{time.monotonic() - started:.0f} s: {len(claims)} tasks")
        seconds = time.monotonic() - started
        with tenant_transaction(self._connection, self._tenant_id):
            store.count_terms(self._connection, self._tenant_id)
        for statement in _LEXEMES:
            self._owner.execute(statement)
        chunks = self._database.value("SELECT count(*) FROM knowledge.chunks")
        failed = self._database.rows(
            "SELECT name, error_message FROM knowledge.documents WHERE status <> 'completed' ORDER BY name"
        )
        return {"chunks": chunks, "failed": dict(failed), "seconds": round(seconds, 1)}

    def ask(self, queries: Sequence[Query]) -> dict[str, dict[str, float]]:
        """Return each strategy's figures."""
        vectors = self._embedder.compute([query.text for query in queries]).vectors
        ranks: dict[str, list[int | None]] = {}
        seconds: dict[str, float] = {}
        for number, (query, row) in enumerate(zip(queries, vectors, strict=True)):
            vector = QueryVector(self._space_id, "[" + ",".join(map(str, row.tolist())) + "]")
            for name, found in self._found(query.text, vector, seconds).items():
                ranks.setdefault(name, []).append(_rank(found, query.pages))
            if number % 100 == 0:
                _tell(f"query {number}")
        return {name: _figures(found) | _milliseconds(seconds.get(name), len(found)) for name, found in ranks.items()}

    def _found(self, text: str, vector: QueryVector, seconds: dict[str, float]) -> dict[str, Ranked]:
        def run(strategy: store.Strategy, limit: int) -> Ranked:
            started = time.perf_counter()
            with tenant_transaction(self._connection, self._tenant_id):
                hits = store.search(self._connection, self._tenant_id, text, vector, strategy=strategy, limit=limit)
            seconds[strategy] = seconds.get(strategy, 0.0) + time.perf_counter() - started
            return [(h.chunk_id, h.document_name, h.similarity or 0.0, h.words or 0.0) for h in hits]

        near, words = run("vector", _POOL), run("lexical", _POOL)
        older = _rows(self._owner, _TS_RANK, (text, _POOL))
        return {
            "hybrid": run("hybrid", _DEPTH),
            "vector": near,
            "lexical": words,
            "ts_rank": older,
            "ts_rank and vectors, by reciprocal rank": _by_rank(near, older),
            "BM25 and vectors, by reciprocal rank": _by_rank(near, words),
            "BM25 and vectors, a third for words": _by_score(near, words, 1 / 3),
            "BM25 and vectors, two thirds for words": _by_score(near, words, 2 / 3),
        }


def _rows(connection: Connection, statement: str, values: tuple[Any, ...]) -> Ranked:
    return [(row[0], row[1], float(row[2]), float(row[3])) for row in connection.execute(statement, values).fetchall()]


def _by_rank(one: Ranked, other: Ranked) -> Ranked:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009), k = 60."""
    scores: dict[UUID, float] = {}
    for ranked in (one, other):
        for place, row in enumerate(ranked, 1):
            scores[row[0]] = scores.get(row[0], 0.0) + 1 / (60 + place)
    return _sorted({row[0]: row for row in one + other}, lambda row: scores[row[0]])


def _by_score(near: Ranked, words: Ranked, share: float) -> Ranked:
    rows = {row[0]: row for row in near + words}
    low, high = min(row[2] for row in rows.values()), max(row[2] for row in rows.values())
    most = max(row[3] for row in rows.values()) or 1.0
    return _sorted(rows, lambda row: (1 - share) * (row[2] - low) / ((high - low) or 1.0) + share * row[3] / most)


def _sorted(rows: dict[UUID, tuple[UUID, str, float, float]], score: Callable[[Any], float]) -> Ranked:
    return sorted(rows.values(), key=lambda row: (-score(row), str(row[0])))


def _rank(found: Ranked, pages: frozenset[str]) -> int | None:
    return next((place for place, row in enumerate(found[:_DEPTH], 1) if row[1] in pages), None)


def _figures(ranks: Sequence[int | None]) -> dict[str, float]:
    count = len(ranks)
    return {
        "mrr": round(sum(1 / rank for rank in ranks if rank) / count, 4),
        "in_first": round(sum(rank == 1 for rank in ranks) / count, 4),
        "in_first_5": round(sum(rank is not None and rank <= 5 for rank in ranks) / count, 4),
    }


def _milliseconds(seconds: float | None, count: int) -> dict[str, float]:
    return {} if seconds is None else {"mean_ms": round(seconds * 1000 / count, 1)}


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
