"""Connections: how one is opened and bound to a tenant."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.abc import RV, PQGen

from core.errors import UnavailableError

Connection = psycopg.Connection[Any]

# Longer than the relay's statements may run, and than a handler's (db/roles.py): who has not heard by then never will.
_ANSWER_SECONDS, _HANDLER_SECONDS = 45.0, 330.0
# What a transaction is bound to and may do ends with it.
_BINDING: Final = "set_config('app.current_tenant_id', %s, true)"
_READING: Final = "set_config('transaction_read_only', 'on', true)"


class _ImpatientConnection(psycopg.Connection[Any]):
    """A connection that breaks when a call is not answered in time.

    A server that hangs, or a pooler, still acknowledges what it is sent: neither keepalives nor the server's own
    timeouts would ever end the wait.
    """

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Do as psycopg does, for `answer_seconds` at most; raises OperationalError, and the connection is broken."""
        if timeout is not None or self.answer_seconds is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.answer_seconds:g} s") from None


def connect(
    url: str, *, name: str, pooled: bool = False, timeout: int = 10, answer_seconds: float | None = None
) -> Connection:
    """Open an autocommit connection; transactions are opened explicitly with `connection.transaction()`.

    `name` is what `pg_stat_activity` shows. `pooled` says that a pooler in transaction mode stands between: no prepared
    statements then. A call that is not answered within `answer_seconds` breaks the connection; None waits for ever.
    Raises UnavailableError when the server cannot be reached within `timeout` seconds.
    """
    try:
        connection = _ImpatientConnection.connect(
            url,
            autocommit=True,
            application_name=f"greenroom {name}",
            connect_timeout=timeout,
            prepare_threshold=None if pooled else 1,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            # keepalives do not watch data that is under way: a cut line would hang for the kernel's quarter hour
            tcp_user_timeout=20_000,
        )
        connection.answer_seconds = answer_seconds
        return connection
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnavailableError(f"cannot connect to the database: {reason}") from error


@contextmanager
def patient(connection: Connection, seconds: float = _HANDLER_SECONDS) -> Iterator[None]:
    """Wait for answers, within the block, for so long: as long as a handler's statements may run."""
    if not isinstance(connection, _ImpatientConnection):
        yield
        return
    before, connection.answer_seconds = connection.answer_seconds, seconds
    try:
        yield
    finally:
        connection.answer_seconds = before


def is_pooled(connection: Connection) -> bool:
    """Return whether a pooler in transaction mode stands between, as `connect` was told: no session is its own then."""
    return connection.prepare_threshold is None


class KeptConnection:
    """One connection that is opened when it is first wanted, and anew after it broke. Not to be shared by threads."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        pooled: bool = False,
        timeout: int = 10,
        answer_seconds: float = _ANSWER_SECONDS,
        cursor: type[psycopg.Cursor[Any]] | None = None,
    ) -> None:
        self._open = partial(connect, url, name=name, pooled=pooled, timeout=timeout, answer_seconds=answer_seconds)
        self._cursor = cursor
        self._connection: Connection | None = None

    def get(self) -> Connection:
        """Return the connection; raises UnavailableError when none can be opened."""
        if self._connection is None or self._connection.closed or self._connection.broken:
            self.close()
            self._connection = self._open()
            if self._cursor is not None:
                self._connection.cursor_factory = self._cursor
        return self._connection

    def another(self) -> Connection:
        """Open one more to the same place, which the caller closes; raises UnavailableError."""
        return self._open()

    def cancel(self) -> None:
        """Ask the server to cancel the statement that runs on it, if one does; any thread may call this."""
        connection = self._connection
        if connection is not None and connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=1.0)

    def close(self) -> None:
        """Close it; the next `get` opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def bind_tenant(connection: Connection, tenant_id: UUID | None) -> None:
    """Bind the current transaction to one tenant (row security); gone with its end. None binds none."""
    connection.execute(f"SELECT {_BINDING}", (str(tenant_id) if tenant_id else "",))


@contextmanager
def tenant_reading(connection: Connection, tenant_id: UUID | None) -> Iterator[Connection]:
    """Open a transaction bound to a tenant that can only read."""
    with connection.transaction():
        connection.execute(f"SELECT {_BINDING}, {_READING}", (str(tenant_id) if tenant_id else "",))
        yield connection


@contextmanager
def tenant_transaction(connection: Connection, tenant_id: UUID | None) -> Iterator[Connection]:
    """Open a transaction bound to a tenant; commits at the end, rolls back on an exception."""
    with connection.transaction():
        bind_tenant(connection, tenant_id)
        yield connection
