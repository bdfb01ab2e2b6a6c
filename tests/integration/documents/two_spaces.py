"""A library under two models: what the tests of spaces share."""

from pathlib import Path
from uuid import UUID

from pgvector import Vector

from console.setup import create_space
from db import search as store
from db import spaces
from db.connection import Connection, tenant_transaction
from db.search import QueryVector
from pipelines.documents.embedders import Embedders
from pipelines.documents.models import find_model
from pipelines.documents.payloads import FillSpace
from pipelines.enqueue import enqueue
from pipelines.resources import Resources
from tests.integration.documents.library import Library

QUESTION = "which knot makes a loop that does not slip?"
SUBJECTS = ("tea", "knots", "kites", "ferrets", "bread", "ice", "maps", "bells")


def second_space(shelf: Library, small: Path, precision: spaces.Precision | None = None) -> UUID:
    return create_space(shelf.database.connect(), find_model(str(small)), precision)


def ask(connection: Connection, shelf: Library, both: Resources) -> list[str]:
    """Search by vectors alone, as the operator, in the space that is active now; return the documents' names."""
    space = spaces.active_space(connection)
    [vector] = both.get(Embedders).of(space).compute([QUESTION]).vectors
    with tenant_transaction(connection, shelf.tenant_id):
        query = QueryVector(space.id, Vector(vector).to_text())
        hits = store.search(connection, shelf.tenant_id, QUESTION, query, strategy="vector", limit=8)
    return [hit.document_name for hit in hits]


def filled(shelf: Library, small: Path) -> spaces.Space:
    """Fill the second space to its end, with its index."""
    space_id = second_space(shelf, small)
    task_id = enqueue(shelf.connection, FillSpace(space_id=space_id))
    finish(shelf, task_id)
    owner = shelf.database.connect()
    space = spaces.get_space(owner, space_id)
    assert space is not None
    spaces.build_index(owner, space)
    return space


def finish(shelf: Library, task_id: UUID) -> None:
    """Work until a task that looks again and again has ended."""
    for _ in range(50):
        shelf.work()
        if shelf.line.task(task_id)["status"] != "pending":
            return
        shelf.database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE id = %s", (task_id,))
    raise AssertionError("the filling did not end")
