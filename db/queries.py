"""Named SQL: `.sql` files beside the stores, and the one seam that runs them and reports each call.

What queries of a file share is a part of it (`-- part: name`); a line `-- include: name` stands for the text of a part
or query above it.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

import psycopg
from psycopg import sql

from core import events
from core.errors import UnavailableError

Row = tuple[Any, ...]
_HEADER = re.compile(r"^-- (name|part): (\w+)$", re.MULTILINE)
_INCLUDE = re.compile(r"^ *-- include: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^-- .*\n", re.MULTILINE)


class Queries:
    """The named queries of one file, `db/sql/<file>.sql`."""

    def __init__(self, file: str) -> None:
        self.file = file

    def text(self, name: str) -> sql.SQL:
        """Return a query's text; KeyError if the file has none of that name."""
        return _load(self.file)[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all queries of the file."""
        return tuple(_load(self.file))

    def run(self, connection: psycopg.Connection[Any], name: str, values: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a query in the connection's current transaction and return its rows (none for a plain UPDATE).

        Raises UnavailableError when the connection or the server is gone; other database errors pass as they are.
        """
        cursor = self._execute(connection, name, values)
        return cursor.fetchall() if cursor.description else []

    def count(self, connection: psycopg.Connection[Any], name: str, values: Mapping[str, Any] | None = None) -> int:
        """Run a query and return how many rows it touched."""
        return max(self._execute(connection, name, values).rowcount, 0)

    def _execute(
        self, connection: psycopg.Connection[Any], name: str, values: Mapping[str, Any] | None
    ) -> psycopg.Cursor[Any]:
        started = time.perf_counter()
        try:
            cursor = connection.execute(self.text(name), values)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not is_unavailable(error):
                raise
            raise unavailable(error) from error
        seconds = time.perf_counter() - started
        events.emit(events.StoreCalled(f"{self.file}.{name}", seconds, max(cursor.rowcount, 0)))
        return cursor


def in_utc(row: Iterable[Any]) -> Iterator[Any]:
    """Yield the values of a row, moments in UTC.

    They come in the session's time zone, and Python compares and subtracts two moments of one zone by its wall clock,
    an hour off where daylight saving lies between them.
    """
    return (value.astimezone(UTC) if isinstance(value, datetime) else value for value in row)


@contextmanager
def transaction(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Run queries in one transaction; raises UnavailableError, as each of them does, when the server is gone."""
    try:
        with connection.transaction():
            yield
    except psycopg.Error as error:
        if not is_unavailable(error):
            raise
        raise unavailable(error) from error


def is_unavailable(error: BaseException) -> bool:
    """Whether a database error says that connection or server are away: nothing about the statement itself."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, UnavailableError)
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    # connection exceptions; the server shuts down, crashed, starts; too many connections; read-only after a fail-over
    return error.sqlstate[:2] == "08" or error.sqlstate in {"57P01", "57P02", "57P03", "53300", "25006"}


def unavailable(error: psycopg.Error) -> UnavailableError:
    """Return what is raised for an error of which `is_unavailable` is true."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return UnavailableError("the database only reads: it is a standby, or was set so; use the primary's address")
    return UnavailableError(f"the database does not answer: {type(error).__name__}")


@cache
def _load(file: str) -> dict[str, sql.SQL]:
    source = resources.files("db").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADER.split(source)
    bodies: dict[str, str] = {}
    for name, body in zip(parts[1::3], parts[2::3], strict=True):
        whole = _INCLUDE.sub(lambda include: bodies[include[1]], body)
        bodies[name] = _COMMENT.sub("", whole.strip()).removesuffix(";")
    named = [name for kind, name in zip(parts[0::3], parts[1::3], strict=True) if kind == "name"]
    return {name: sql.SQL(bodies[name]) for name in named}
