"""Whose a store is: a mark at its root names the installation, and no other one writes or removes there.

Keys say which tenant's a file is, or which table's, and both may be the same in two installations. The first that
writes marks an empty store. A copy of a database is the same installation: give it stores of its own.
"""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from core.errors import PermanentError
from db import files
from db.connection import Connection
from pipelines.storage.base import MARK


class Markable(Protocol):
    """A store that can be marked; each raises UnavailableError where it does not answer."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def mark(self) -> str | None:
        """Return its mark."""
        ...

    def set_mark(self, text: str) -> None:
        """Mark it."""
        ...

    def is_empty(self) -> bool:
        """Return whether nothing stands in it."""
        ...


class ForeignStoreError(PermanentError):
    """The store is another installation's, or nobody can tell whose it is."""


def refuse_foreign(connection: Connection, store: Markable) -> None:
    """Raise ForeignStoreError for a store of another installation; mark one that is empty."""
    own = files.installation(connection)
    known = store.mark()
    if known is None and store.is_empty():
        known = _marked(store, own)
    if known not in (None, str(own)):
        raise ForeignStoreError(
            f"{store.place} is the store of another installation ({known}): give this one a place of its own"
        )


def claim(connection: Connection, store: Markable, is_ours: Callable[[], bool]) -> None:
    """Do as `refuse_foreign`, and mark a store with files that `is_ours` knows; refuse one that it does not know.

    For what goes by the whole store, and would take what is another's for nobody's.
    """
    refuse_foreign(connection, store)
    if store.mark() is not None:
        return
    own = files.installation(connection)
    if not is_ours():
        raise ForeignStoreError(
            f"{store.place} has files and no mark, and none of them is known here: if it is this installation's, "
            f"write {own} into its file {MARK}"
        )
    _marked(store, own)


def _marked(store: Markable, own: UUID) -> str | None:
    """Mark a store, and return what it is marked with: of two that come at once the later one stays."""
    store.set_mark(str(own))
    return store.mark()
