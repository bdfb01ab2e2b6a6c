"""Databases that are full: 60,000 rows a table, most of one tenant, two hundred of another, the rest of 500 more.

Row n of every table is the same tenant's, so that rows of a number belong together. The few are the oldest of all: a
walk from the newest on passes everything before it comes to them.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg

from db.embedded import EmbeddedServer
from tests.support.database import Database, cloned

BLIND, ANALYSED = STATES = "no statistics", "analysed"


def key(of: str, number: int) -> UUID:
    """Return the key of a table's row of that number."""
    return UUID(hashlib.md5(of.encode(), usedforsecurity=False).hexdigest()[:16] + f"{number:016x}")


class Whose(NamedTuple):
    """A tenant, and the number of a row that each table has of it."""

    name: str
    tenant: UUID
    number: int


ACTIVE, OTHER = key("spaces", 1), key("spaces", 2)
"""The space that searches read, and one that has nothing yet."""
FEW = Whose("few", key("tenants", 1), 100)
MANY = Whose("many", key("tenants", 2), 30_100)

_SOURCE = Path(__file__).with_name("full.sql").read_text(encoding="utf-8")
_, *_PARTS = re.split(r"^-- fill: (\w+)$", _SOURCE, flags=re.MULTILINE)
_FILLS = dict(zip(_PARTS[::2], _PARTS[1::2], strict=True))


@dataclass
class Full:
    """A database that is full, and what the planner knows of it."""

    database: Database
    state: str = BLIND

    def bring_to(self, state: str) -> None:
        """Let the planner know what it knows in a state; there is no way back."""
        if state == ANALYSED != self.state:
            self._run("ANALYZE")
            self.state = state
        assert self.state == state

    @contextmanager
    def without(self, index: str) -> Iterator[None]:
        """Hide an index from the planner, with those of partitions."""
        self._run(_HIDE, (False, index))
        yield
        self._run(_HIDE, (True, index))

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> None:
        with psycopg.connect(self.database.superuser_url, autocommit=True) as superuser:
            superuser.execute(statement.encode(), values)


_HIDE = """
UPDATE pg_index SET indisvalid = %s
WHERE indexrelid IN (SELECT oid FROM pg_class WHERE COALESCE(pg_partition_root(oid), oid) = %s::regclass)
"""


@contextmanager
def full(server: EmbeddedServer, template: str, *fills: str) -> Iterator[Full]:
    """A database of one's own with these fills, in their order; what one refers to may be missing."""
    with cloned(server, template) as database:
        with psycopg.connect(database.superuser_url, autocommit=True) as filling:
            filling.execute("SET session_replication_role = replica")
            for text in (_FILLS[name] for name in ("functions", *fills)):
                filling.execute(text.encode())
        yield Full(database)
