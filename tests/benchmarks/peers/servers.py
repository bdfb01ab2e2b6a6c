"""The two servers of a run, and a fresh database for each measurement: nobody meets another's bloat or history."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql

from db.embedded import EmbeddedServer
from db.embedded.cluster import SUPERUSER
from tests.support.redis_server import flush, redis_server

_SHOWN = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "wal_compression")
_numbers = itertools.count(1)


class Servers:
    """Both servers, up for the run."""

    def __init__(self, postgres: EmbeddedServer, redis_url: str) -> None:
        self._postgres = postgres
        self.redis_url = redis_url

    def create(self, name: str) -> str:
        """Create an empty database with the table of effects; return its owner's address."""
        self._create(name, "template0")
        with self._superuser(name) as connection:
            connection.execute("CREATE EXTENSION vector SCHEMA public")
        url = self._postgres.url(database=name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA bench")
            connection.execute("CREATE TABLE bench.effects (n bigint NOT NULL, at timestamptz NOT NULL DEFAULT now())")
        return url

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """Copy a database and empty Redis; yields the copy's address and drops it whoever is still connected."""
        name = f"copy_{next(_numbers)}"
        self._create(name, template)
        flush(self.redis_url)
        try:
            yield self._postgres.url(database=name)
        finally:
            with self._superuser("postgres") as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def settle(self, url: str) -> None:
        """Bring statistics up to date and the checkpoint behind us, so that each measurement begins alike."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")
        with self._superuser("postgres") as connection:
            connection.execute("CHECKPOINT")

    def describe(self) -> dict[str, str]:
        """Return the servers' versions and the settings on which durability and speed depend."""
        with self._superuser("postgres") as connection:
            found = {f"postgres {name}": str(_value(connection, f"SHOW {name}")) for name in _SHOWN}
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            info = client.info("server")
            append_only = client.config_get("appendonly")["appendonly"]
        version = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
        return {**found, "redis server": version, "redis appendonly": append_only}

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER greenroom_owner STRATEGY file_copy")
        with self._superuser("postgres") as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def _superuser(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self._postgres.url(SUPERUSER, database), autocommit=True)


@contextmanager
def servers() -> Iterator[Servers]:
    """Run both for the block, in temporary folders."""
    with (
        tempfile.TemporaryDirectory(prefix="greenroom-peers-") as home,
        EmbeddedServer(Path(home)) as postgres,
        redis_server() as redis_url,
    ):
        yield Servers(postgres, redis_url)


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    [(value,)] = connection.execute(query.encode()).fetchall()
    return value
