"""A SQLAlchemy session over a psycopg connection that another owns, inside that owner's open transaction.

Invariant: SQLAlchemy neither ends the transaction nor closes the connection; a session that is told to is refused.
Imported late, by whoever asks for a session: the relay and producers must not pay for the ORM.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core.errors import PermanentError

_lent: ContextVar[psycopg.Connection[Any]] = ContextVar("lent")


class LentDialect(PGDialect_psycopg):
    """PostgreSQL over a lent connection: its beginning and its end are the owner's."""

    supports_statement_cache = True
    _is_initialised = False

    def on_connect(self) -> Callable[[Any], None] | None:
        """Leave the owner's connection as it is."""
        return None

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Refuse; once, after SQLAlchemy's first look at the server, there is nothing to roll back."""
        if self._is_initialised:
            raise PermanentError("a handler cannot roll back: an exception undoes what its apply wrote")
        self._is_initialised = True

    def do_commit(self, dbapi_connection: Any) -> None:
        """Refuse."""
        raise PermanentError("a handler cannot commit: the worker commits its writes together with the task")

    def do_close(self, dbapi_connection: Any) -> None:
        """Leave the connection open for its owner."""

    def do_terminate(self, dbapi_connection: Any) -> None:
        """Leave the connection open for its owner."""


def session_over(connection: psycopg.Connection[Any]) -> Session:
    """Return a session that works inside the connection's current transaction and flushes into it."""
    token = _lent.set(connection)
    try:
        bound = _engine().connect()
    finally:
        _lent.reset(token)
    return Session(bound, autoflush=True, expire_on_commit=False)


@cache
def _engine() -> Engine:
    registry.register("postgresql.lent", __name__, LentDialect.__name__)
    return create_engine(
        "postgresql+lent://", creator=_lent.get, poolclass=NullPool, pool_reset_on_return=None, use_native_hstore=False
    )
