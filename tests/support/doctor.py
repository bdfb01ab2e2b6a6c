"""What holds `doctor`'s checks: an installation that cases break for real, each with the check that has to find it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from console.addresses import Place
from console.checks.findings import Bounds, Check, Finding, Level, Sight
from console.checks.registry import CHECKS
from console.checks.running import look
from core.settings import load_settings
from db import processes
from db.processes import ProcessRow
from tests.support.database import Database
from tests.support.factory import Factory

QUICK = Bounds(answer=2.0)
IMPATIENT = Bounds(answer=0.3, look=0.5)


@dataclass
class Bench:
    """An installation over a database of the test's own; what a case changes beyond it, it hands to `stack` to undo."""

    database: Database
    folder: Path
    patch: pytest.MonkeyPatch
    stack: ExitStack
    redis_url: str
    settings: dict[str, Any] = field(default_factory=dict)

    def sight(self, *, role: str = "owner", is_own: bool = False, **given: Any) -> Sight:
        """Return what checks look through, with the login of a role; `given` are more of Sight's own."""
        url = {"url": self.database.url(role)} | self.settings.get("database", {})
        settings = load_settings(_env_file=None, home=self.folder, **self.settings | {"database": url})
        place = Place(str(url["url"]), settings, is_embedded=False)
        sight = Sight(settings, place, is_own=is_own, **{"bounds": QUICK} | given)
        self.stack.callback(sight.close)
        return sight

    def process(self, kind: str, *, hears: bool | None = None, silent: float = 0.0, **given: Any) -> UUID:
        """Make a process known that said something of itself `silent` seconds ago; `given` are fields of its row."""
        late = given.pop("loops_late", {"beat": 0.0})
        row = ProcessRow(uuid4(), kind, "host", 7, **given)
        with psycopg.connect(self.database.url("relay"), autocommit=True) as connection:
            processes.beat(connection, row, late)
            if hears is not None:
                processes.mark_sleeping(connection, row.id, is_sleeping=False, hears_notify=hears)
        self.database.rows(
            "UPDATE queue.processes SET beat_at = beat_at - make_interval(secs => %s) WHERE id = %s", (silent, row.id)
        )
        return row.id

    def live(self) -> None:
        """Make a relay and a worker known that are well."""
        self.process("relay", hears=True)
        self.process("worker", queues=["default", "documents"], slots=4)

    @cached_property
    def factory(self) -> Factory:
        """Rows of the default tenant."""
        tenant = self.database.value("SELECT identity.default_tenant_id()")
        return Factory(self.database.connect(), tenant)

    def as_superuser(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement, as no process of Greenroom could."""
        with psycopg.connect(self.database.superuser_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Case:
    """One way to break what a check looks at: `break_it` does it, and the finding has this level and these words."""

    check: str
    level: Level
    says: str
    break_it: Callable[[Bench], Sight]

    def __str__(self) -> str:
        return self.break_it.__name__


CASES: list[Case] = []
Breaking = Callable[[Bench], Sight]


def breaks(check: str, level: Level, says: str) -> Callable[[Breaking], Breaking]:
    """Add a way to break what a check looks at."""

    def add(break_it: Breaking) -> Breaking:
        CASES.append(Case(check, level, says, break_it))
        return break_it

    return add


def check_of(name: str) -> Check:
    """Return a check by its name."""
    [found] = [check for check in CHECKS if check.name == name]
    return found


def found(sight: Sight, *names: str) -> list[Finding]:
    """Return what the checks of these names find."""
    return look(sight, [check_of(name) for name in names])
