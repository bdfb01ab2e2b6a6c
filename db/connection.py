"""Connections: how one is opened and bound to a tenant."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from core.errors import UnavailableError

Connection = psycopg.Connection[Any]


def connect(url: str, *, name: str, pooled: bool = False, timeout: int = 10) -> Connection:
    """Open an autocommit connection; transactions are opened explicitly with `connection.transaction()`.

    `name` is what `pg_stat_activity` shows. `pooled` says that a pooler in transaction mode stands between: no prepared
    statements then. Raises UnavailableError when the server does not answer within `timeout` seconds.
    """
    try:
        return psycopg.connect(
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
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnavailableError(f"cannot connect to the database: {reason}") from error


class KeptConnection:
    """One connection that is opened when it is first wanted, and anew after it broke. Not to be shared by threads."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        pooled: bool = False,
        timeout: int = 10,
        cursor: type[psycopg.Cursor[Any]] | None = None,
    ) -> None:
        self._open = partial(connect, url, name=name, pooled=pooled, timeout=timeout)
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

    def close(self) -> None:
        """Close it; the next `get` opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def bind_tenant(connection: Connection, tenant_id: UUID | None) -> None:
    """Bind the current transaction to one tenant (row security); gone with its end. None binds none."""
    connection.execute("SELECT set_config('app.current_tenant_id', %s, true)", (str(tenant_id) if tenant_id else "",))


@contextmanager
def tenant_transaction(connection: Connection, tenant_id: UUID | None) -> Iterator[Connection]:
    """Open a transaction bound to a tenant; commits at the end, rolls back on an exception."""
    with connection.transaction():
        bind_tenant(connection, tenant_id)
        yield connection
