"""A document is found by its name or by what it is registered by, in a collection or in none, and so is its file."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from core.errors import InvalidOptionsError, NotFoundError
from db import documents, library
from db.connection import bind_tenant
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.tenants import new_tenant


@pytest.fixture
def ours(database: Database) -> Iterator[Factory]:
    """The maker of a tenant's rows."""
    with new_tenant(database) as factory:
        yield factory


def find(database: Database, tenant_id: UUID, name: str) -> UUID:
    operator = database.connect("operator")
    with operator.transaction():
        bind_tenant(operator, tenant_id)
        return library.find(operator, name)


@pytest.mark.parametrize("is_collected", [True, False])
def test_a_document_is_found_by_its_name_and_by_its_external_id(
    database: Database, ours: Factory, is_collected: bool
) -> None:
    collection_id = ours.row("knowledge.collections")["id"] if is_collected else None
    made = ours.row("knowledge.documents", name="a.pdf", external_id="/x/a.pdf", collection_id=collection_id)["id"]
    assert find(database, ours.tenant_id, "a.pdf") == find(database, ours.tenant_id, "/x/a.pdf") == made
    both = ours.row("knowledge.documents", name="b", external_id="b", collection_id=collection_id)["id"]
    assert find(database, ours.tenant_id, "b") == both


def test_several_of_a_name_and_one_of_another_tenant_are_not_found(database: Database, ours: Factory) -> None:
    collection_id = ours.row("knowledge.collections")["id"]
    ours.row("knowledge.documents", name="a.pdf", collection_id=collection_id)
    ours.row("knowledge.documents", name="x", external_id="a.pdf")
    ours.row("knowledge.documents", name="gone", deleted_at="now")
    with pytest.raises(InvalidOptionsError, match="several documents are named"):
        find(database, ours.tenant_id, "a.pdf")
    with pytest.raises(NotFoundError):
        find(database, ours.tenant_id, "gone")
    with new_tenant(database) as theirs, pytest.raises(NotFoundError):
        find(database, theirs.tenant_id, "x")


@pytest.mark.parametrize("is_collected", [True, False])
def test_a_file_that_is_registered_anew_says_which_was_there(
    database: Database, ours: Factory, is_collected: bool
) -> None:
    collection_id = ours.row("knowledge.collections")["id"] if is_collected else None
    worker = database.connect("worker")
    former = []
    for path in ("first", "second"):
        with worker.transaction():
            bind_tenant(worker, ours.tenant_id)
            registered = documents.register(
                worker,
                tenant_id=ours.tenant_id,
                collection_id=collection_id,
                external_id="a",
                name="a",
                source="upload",
                file_path=path,
                file_size=1,
            )
        former.append((registered.id, registered.former_path))
    assert [path for _, path in former] == [None, "first"]
    assert former[0][0] == former[1][0]
