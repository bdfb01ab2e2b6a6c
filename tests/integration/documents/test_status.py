"""A document's status follows from the tasks that make it searchable, and from no others."""

from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from db import identity, library, tasks
from db.connection import tenant_transaction
from tests.support.database import Database

_TASK = """
INSERT INTO queue.outbox_tasks (task_type, payload, payload_version, queue, priority, max_attempts, tenant_id,
    owner_kind, owner_id, status, started_at, completed_at, failed_at, last_error)
VALUES (%s, %s, 1, 'q', 0, 5, identity.default_tenant_id(), 'document',
    %s, %s, now(), clock_timestamp(), CASE %s WHEN 'failed' THEN now() END, 'broke')
RETURNING id
"""


@pytest.fixture
def document_id(database: Database) -> UUID:
    """A document whose second version is under way."""
    found: UUID = database.value(
        "INSERT INTO knowledge.documents (tenant_id, name, status, current_version, next_version) "
        "VALUES (identity.default_tenant_id(), 'd', 'processing', 1, 2) RETURNING id"
    )
    return found


def ended(database: Database, document_id: UUID, task_type: str, status: str) -> UUID:
    """End a task of the document's second version."""
    # an ingest does not know yet which version it will make
    version = {} if task_type == "document.ingest" else {"version": 2}
    payload = Jsonb({"document_id": str(document_id)} | version)
    found: UUID = database.value(_TASK, (task_type, payload, document_id, status, status))
    return found


def status_of(database: Database, document_id: UUID) -> tuple[str, str | None]:
    [row] = database.rows("SELECT status, error_message FROM knowledge.documents WHERE id = %s", (document_id,))
    return row


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("task_type", ["document.ingest", "document.chunk", "chunks.embed"])
def test_a_document_fails_with_a_task_that_makes_it(
    database: Database, document_id: UUID, task_type: str, status: str
) -> None:
    task_id = ended(database, document_id, task_type, status)
    assert status_of(database, document_id) == ("failed", "broke")

    tasks.replay(database.connect("operator"), [task_id])
    assert status_of(database, document_id) == ("processing", None)


def test_a_task_that_only_works_for_a_document_says_nothing_about_it(database: Database, document_id: UUID) -> None:
    task_id = ended(database, document_id, "notes.summarise", "failed")
    assert status_of(database, document_id) == ("processing", None)

    embedding = ended(database, document_id, "chunks.embed", "failed")
    operator = database.connect("operator")
    tasks.replay(operator, [task_id])
    assert status_of(database, document_id) == ("failed", "broke")

    ended(database, document_id, "notes.summarise", "cancelled")
    tasks.replay(operator, [embedding])
    assert status_of(database, document_id) == ("processing", None)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_document_works_again_once_all_that_it_lacks_is_replayed(
    database: Database, document_id: UUID, status: str
) -> None:
    first, second = (ended(database, document_id, "chunks.embed", end) for end in ("failed", status))
    operator = database.connect("operator")

    tasks.replay(operator, [first])
    assert status_of(database, document_id) == ("failed", "broke")

    tasks.replay(operator, [second])
    assert status_of(database, document_id) == ("processing", None)


def test_a_retry_goes_on_at_the_stage_that_failed(database: Database, document_id: UUID) -> None:
    operator = database.connect("operator")
    tenant_id = identity.tenant_id_of(operator, "default")

    def failed() -> set[UUID]:
        with tenant_transaction(operator, tenant_id):
            assert library.failed_tasks(operator, [document_id]) == library.failed_tasks(operator, None)
            return set(library.failed_tasks(operator, None))

    first = ended(database, document_id, "document.ingest", "failed")
    ingest = ended(database, document_id, "document.ingest", "failed")
    assert failed() == {ingest}, "and not the one before"
    assert first != ingest
    ended(database, document_id, "document.ingest", "done")
    embeds = {ended(database, document_id, "chunks.embed", status) for status in ("failed", "cancelled")}
    ended(database, document_id, "chunks.embed", "done")
    ended(database, document_id, "notes.summarise", "failed")
    assert failed() == embeds
    with tenant_transaction(operator, tenant_id):
        assert set(tasks.replay(operator, list(embeds))) == embeds
    assert status_of(database, document_id) == ("processing", None)
    assert failed() == set()
