"""Named SQL: `.sql` files beside the stores, and the one seam that runs them and reports each call."""

import re
import time
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql

from core import events
from core.errors import UnavailableError

Row = tuple[Any, ...]
_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


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
        started = time.perf_counter()
        try:
            cursor = connection.execute(self.text(name), values)
        except psycopg.OperationalError as error:
            raise UnavailableError(f"the database does not answer: {type(error).__name__}") from error
        rows = cursor.fetchall() if cursor.description else []
        count = len(rows) if cursor.description else max(cursor.rowcount, 0)
        events.emit(events.StoreCalled(f"{self.file}.{name}", time.perf_counter() - started, count))
        return rows

    def count(self, connection: psycopg.Connection[Any], name: str, values: Mapping[str, Any] | None = None) -> int:
        """Run a query and return how many rows it touched."""
        started = time.perf_counter()
        try:
            touched = max(connection.execute(self.text(name), values).rowcount, 0)
        except psycopg.OperationalError as error:
            raise UnavailableError(f"the database does not answer: {type(error).__name__}") from error
        events.emit(events.StoreCalled(f"{self.file}.{name}", time.perf_counter() - started, touched))
        return touched


@cache
def _load(file: str) -> dict[str, sql.SQL]:
    source = resources.files("db").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(source)
    return {
        name: sql.SQL(cast(LiteralString, body.strip().removesuffix(";")))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
