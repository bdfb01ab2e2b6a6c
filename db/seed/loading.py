"""Load `rows.toml` into a database: for development, never for a database that people use.

Each row has a `key`, unique in its table, that its id is made from (UUID version 5), so that a second run finds it. A
text in a column that refers to a table is the key of a row there. Rows that are there are left as they are.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Column, Table
from sqlalchemy.dialects.postgresql import JSONB

from core.credentials import hash_password, new_api_key
from core.errors import UsageError
from db.connection import Connection
from db.models import Base
from db.queries import transaction

_NAMESPACE: Final = UUID("5f2b7a52-64d7-4a5b-8e0c-2a1d5c3f9b10")
_DEFAULT_TENANT: Final = UUID("00000000-0000-7000-8000-000000000001")
"""The tenant that the first migration makes; key "default"."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a run wrote: rows by table, and the API keys it made, by name: they can be read here and never again.

    `kept_api_keys` are the names of those that were there: they open under the key that they were made with alone.
    """

    rows: Mapping[str, int]
    api_keys: Mapping[str, str]
    kept_api_keys: tuple[str, ...]


def seed(connection: Connection, pepper: bytes | None) -> Seeded:
    """Write what is missing in one transaction, as the database's owner; API keys only with a pepper to hash them.

    Raises UsageError, and nothing is written, where a row of the database's own has a key of the data: a slug, an
    address.
    """
    written: dict[str, int] = {}
    made: dict[str, str] = {}
    kept: list[str] = []
    tables = {f"{table.schema}.{table.name}": table for table in Base.metadata.tables.values()}
    with transaction(connection):
        for name, rows in _data().items():
            for row in rows:
                if "api_key" in row and pepper is None:
                    continue
                values = _values(tables[name], row)
                key = _credentials(row, values, pepper)
                count = _insert(connection, tables[name], values, row["key"])
                written[name] = written.get(name, 0) + count
                if key and count:
                    made[values["name"]] = key
                elif key:
                    kept.append(values["name"])
    return Seeded(written, made, tuple(kept))


def id_of(table: str, key: str) -> UUID:
    """Return the id of the row of a table (schema and name) that has a key in the data."""
    if (table, key) == ("identity.tenants", "default"):
        return _DEFAULT_TENANT
    return uuid5(_NAMESPACE, f"{table}/{key}")


def _data() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by table, each table after those that it refers to."""
    return tomllib.loads(resources.files(__package__).joinpath("rows.toml").read_text(encoding="utf-8"))


def _values(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"id": id_of(f"{table.schema}.{table.name}", row["key"])}
    for name, value in row.items():
        if name in {"key", "password", "api_key"}:
            continue
        column = table.columns[name]
        values[name] = _value(column, value)
    if "tenant_id" in table.columns and "tenant_id" not in row and not row.get("is_public"):
        values["tenant_id"] = _DEFAULT_TENANT
    return values


def _value(column: Column[Any], value: Any) -> Any:
    if column.foreign_keys and isinstance(value, str):
        target = next(iter(sorted(column.foreign_keys, key=str))).column.table
        return id_of(f"{target.schema}.{target.name}", value)
    return Jsonb(value) if isinstance(column.type, JSONB) else value


def _credentials(row: Mapping[str, Any], values: dict[str, Any], pepper: bytes | None) -> str | None:
    """Add the hash of a password or of a new key to a row's values; return the key."""
    if "password" in row:
        values["password_hash"] = hash_password(row["password"])
    if "api_key" not in row or pepper is None:
        return None
    made = new_api_key(pepper)
    values |= {"key_hash": made.key_hash, "key_prefix": made.prefix}
    return made.key


def _insert(connection: Connection, table: Table, values: Mapping[str, Any], key: str) -> int:
    place = sql.Identifier(str(table.schema), table.name)
    known = sql.SQL("SELECT FROM {} WHERE id = %s").format(place)
    if connection.execute(known, (values["id"],)).rowcount:
        return 0
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        place,
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    try:
        return connection.execute(statement, list(values.values())).rowcount
    except psycopg.errors.UniqueViolation as error:
        raise UsageError(
            f"{table.schema}.{table.name} has a row of its own where the development data's {key!r} would stand "
            f"({error.diag.constraint_name}): nothing is written; seed a database that people do not use"
        ) from error


def keys() -> Iterator[tuple[str, str]]:
    """Yield table and key of each row of the data."""
    for name, rows in _data().items():
        yield from ((name, row["key"]) for row in rows)
