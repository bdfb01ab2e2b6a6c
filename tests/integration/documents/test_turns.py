"""A slow file has the parser to itself and parks nobody: other documents come back later, other tasks are served."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from db import tasks
from pipelines.documents.parsing import ParseLimits, ParserProcess
from pipelines.documents.payloads import DeleteFile
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from pipelines.storage import LocalStorage, Storage, local
from tests.integration.documents.library import Library
from tests.support.database import Database

_LONG = 60.0


class SlowParser(ParserProcess):
    """A parser that keeps its document until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def _ask(self, request: Any) -> dict[str, Any]:
        self.has_begun.set()
        assert self.may_end.wait(_LONG)
        return super()._ask(request)


def test_a_slow_file_parks_no_other_thread(
    database: Database, storage_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = SlowParser()
    database.at_end(parser.close)
    resources = Resources()
    resources.provide(Storage, lambda: LocalStorage(storage_root))
    resources.provide(ParseLimits, lambda: ParseLimits(10_000, 10, _LONG, 2_000_000_000, 10_000))
    resources.provide(ParserProcess, lambda: parser)
    library = Library(database, resources, storage_root)
    database.at_end(library.line.close)
    library.write("slow.md", "# Slow")
    library.write("quick.md", "# Quick")
    library.line.run_once()
    first, second = library.line.claim()
    parsing = threading.Thread(target=library.line.run, args=([first],))
    parsing.start()
    try:
        assert parser.has_begun.wait(_LONG)
        other = enqueue(library.connection, DeleteFile(file_path=f"{library.tenant_id}/never-there.md"))
        started = time.monotonic()
        with monkeypatch.context() as patched:
            patched.delattr(local, "hash_of")  # whoever has no turn reads no file
            library.line.run([second])
        library.line.run_once()
        assert time.monotonic() - started < _LONG / 4
    finally:
        parser.may_end.set()
        parsing.join()

    waiting = library.line.task(second.task_id)
    assert (waiting["status"], waiting["attempts"], waiting["snoozes"]) == ("pending", 0, 1)
    assert library.line.task(other)["status"] == "done"
    assert library.line.task(first.task_id)["status"] == "done"
    tasks.retry_now(library.connection, second.task_id)
    library.line.run(library.line.claim())
    assert library.line.task(second.task_id)["status"] == "done"
