"""Greenroom in the same run: `greenroom up` with its shipped settings, its tasks committed by one transaction."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from db import identity
from db.connection import Connection, connect
from pipelines.documents.payloads import IngestDocument
from pipelines.enqueue import enqueue_many
from tests.support.command import Greenroom

_PAUSE = 0.1
_PATIENCE = 3600.0
_MEGABYTE = 1_000_000


class Library:
    """A running Greenroom and the folder that its tasks read from."""

    def __init__(self, connection: Connection, folder: Path, pid: int) -> None:
        self._connection = connection
        self._tenant_id = identity.tenant_id_of(connection, "default")
        self._process = psutil.Process(pid)
        self.folder = folder / str(self._tenant_id)
        self.folder.mkdir(parents=True, exist_ok=True)

    def ingest(self, names: list[str], look: Callable[[int], None] | None = None) -> tuple[int, float]:
        """Commit a task for each file and wait until all are searchable; return new chunks and seconds.

        `look` is called with the count of vectors now and then; to count them takes time from what is measured.
        """
        before = self._count("SELECT count(*) FROM knowledge.chunk_vectors")
        wanted = self._documents()[0] + len(names)
        begun = time.perf_counter()
        enqueue_many(self._connection, [IngestDocument(path=name) for name in names], tenant_id=self._tenant_id)
        deadline = time.monotonic() + _PATIENCE
        while (found := self._documents())[0] < wanted:
            if found[1] or time.monotonic() > deadline:
                raise SystemExit(f"{found[1]} documents failed, or it took too long")
            if look:
                look(self._count("SELECT count(*) FROM knowledge.chunk_vectors"))
            time.sleep(_PAUSE)
        seconds = time.perf_counter() - begun
        return self._count("SELECT count(*) FROM knowledge.chunk_vectors") - before, seconds

    def megabytes(self) -> float:
        """Return what the process that embeds, the largest of them, holds in memory now."""
        together = [self._process, *self._process.children(recursive=True)]
        return max(_resident(process) for process in together) / _MEGABYTE

    def _documents(self) -> tuple[int, int]:
        """Return how many are completed, and how many failed."""
        [(completed, failed)] = self._connection.execute(
            b"SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed')"
            b" FROM knowledge.documents"
        ).fetchall()
        return int(completed), int(failed)

    def _count(self, query: str) -> int:
        [(count,)] = self._connection.execute(query.encode()).fetchall()
        return int(count)


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.NoSuchProcess:  # a parser that was recycled
        return 0.0


@contextmanager
def library(home: Path, url: str, dtype: str) -> Iterator[Library]:
    """Run `greenroom up` over an empty database until the end of the block; its model is warm."""
    storage = home / "storage"
    storage.mkdir()
    settings: dict[str, Any] = {
        "GREENROOM_DATABASE_URL": url,
        "GREENROOM_STORAGE_ROOT": str(storage),
        "GREENROOM_EMBEDDING_DTYPE": dtype,
    }
    command = Greenroom(home, settings)
    command.ok("db", "migrate")
    with command.running("up") as running, connect(url, name="bench") as connection:
        own = Library(connection, storage, running.process.pid)
        (own.folder / "warm-up.txt").write_text("A sentence that is embedded before anything is measured.\n" * 30)
        own.ingest(["warm-up.txt"])
        yield own
        running.stop()
