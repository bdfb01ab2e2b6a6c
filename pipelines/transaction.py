"""The transaction that an outcome's `apply` writes in: tenant-bound, short, and not the handler's to end."""

from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from pipelines.enqueue import enqueue, enqueue_many
from pipelines.payload import Payload

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from pipelines.keyring import KeyRing


class Transaction:
    """The open transaction that also completes the task.

    `connection` is the psycopg connection, `session` a SQLAlchemy session over it; both write into the same
    transaction. Ending it is refused: the worker commits it together with the task's completion.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], tenant_id: UUID | None, keyring: "KeyRing | None" = None
    ) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self._keyring = keyring

    @cached_property
    def session(self) -> "Session":
        """A SQLAlchemy session inside this transaction; flushed by the worker before the task completes."""
        from db.lent import session_over  # what has no use for the ORM does not load it

        return session_over(self.connection)

    def execute(self, query: Any, values: Any = None) -> "psycopg.Cursor[Any]":
        """Run one statement."""
        return self.connection.execute(query, values)

    def enqueue(self, payload: Payload, **options: Any) -> UUID:
        """Enqueue a task that exists if and only if this transaction commits; in the same tenant."""
        return enqueue(self.connection, payload, keyring=self._keyring, **self._options(options))

    def enqueue_many(self, payloads: list[Payload], **options: Any) -> list[UUID]:
        """Enqueue tasks of one type that exist if and only if this transaction commits."""
        return enqueue_many(self.connection, payloads, keyring=self._keyring, **self._options(options))

    def flush(self) -> None:
        """Write what the session still holds; the worker calls it."""
        if "session" in self.__dict__:
            self.session.flush()

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if self.tenant_id is None else {"tenant_id": self.tenant_id, **options}
