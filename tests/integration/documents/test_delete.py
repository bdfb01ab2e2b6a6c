"""A deletion is for one tenant: without one it fails and says so, and another tenant's file is out of reach."""

from uuid import UUID, uuid4

import pytest

from core.errors import PermanentError
from db.connection import KeptConnection
from db.queue import Attempt
from pipelines.documents.delete import delete_document, delete_file
from pipelines.documents.payloads import DeleteDocument, DeleteFile
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.support.database import Database
from workers.attempts import Context, Progress
from workers.running import RunningAttempts

_OTHER = UUID("00000000-0000-7000-8000-000000000002")


def test_deleting_without_a_tenant_is_an_error_and_not_done(database: Database) -> None:
    attempt = Attempt(uuid4(), 1, 1, 1, 0, None, "{}", 1, None, 0.0)
    reporter = Progress(database.url("worker"), pooled=False)
    connection = KeptConnection(database.url("worker"), name="test")
    context = Context(attempt, Resources(), connection, reporter, RunningAttempts(), uuid4())

    with pytest.raises(PermanentError, match="no tenant"):
        delete_document(context, DeleteDocument(document_id=uuid4()))
    with pytest.raises(PermanentError, match="no tenant"):
        delete_file(context, DeleteFile(file_path=f"{_OTHER}/tea.md"))


def test_another_tenants_file_stays(library: Library) -> None:
    theirs = library.folder.parent / str(_OTHER) / "tea.md"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("theirs")
    task_ids = [
        enqueue(library.connection, DeleteFile(file_path=path))
        for path in (f"{_OTHER}/tea.md", f"{library.tenant_id}/../{_OTHER}/tea.md")
    ]
    library.work()

    for task_id in task_ids:
        task = library.line.task(task_id)
        assert (task["status"], task["attempts"]) == ("failed", 1)
        assert "StoragePathError" in task["last_error"]
    assert theirs.exists()
