"""What a statement of a test's own gives back."""

from typing import Any

from psycopg import sql

from db.connection import Connection


def rows(connection: Connection, query: str | sql.Composed, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    return connection.execute(query.encode() if isinstance(query, str) else query, values or None).fetchall()


def value(connection: Connection, query: str | sql.Composed, *values: Any) -> Any:
    """Run a statement and return the one value of its one row."""
    [(found,)] = rows(connection, query, *values)
    return found


def column(connection: Connection, query: str | sql.Composed, *values: Any) -> set[Any]:
    """Run a statement of one column and return its values."""
    return {found for (found,) in rows(connection, query, *values)}


def changed(connection: Connection, query: str | sql.Composed, *values: Any) -> int:
    """Run a statement and return how many rows it changed."""
    return connection.execute(query.encode() if isinstance(query, str) else query, values or None).rowcount
