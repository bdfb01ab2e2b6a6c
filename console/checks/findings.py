"""What a check is, what it may look at, and what it says."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from console.addresses import Place
from core.errors import UnavailableError
from core.settings import Settings
from db.connection import Connection, connect

if TYPE_CHECKING:
    from pipelines.documents.embedders import Models

Level = Literal["ok", "warning", "wrong"]
Needs = Literal["nothing", "server", "schema"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How something is; `wrong` makes `doctor` fail."""

    name: str
    level: Level
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From when on something is told of, and how long it may take to look."""

    answer: float = 3.0
    """Seconds that a server, a broker or a connection may take to answer."""
    look: float = 6.0
    """Seconds that a whole check may take."""
    deep_look: float = 120.0
    """Seconds that a deep check may take."""
    lag: int = 5_000_000
    """Transactions that the oldest snapshot may lag behind."""
    open_seconds: float = 3600.0
    """Age of the longest open transaction."""
    connections: float = 0.9
    """Share of the server's connections that may be in use."""
    frozen_age: int = 1_000_000_000
    """Transactions since the oldest row that is not frozen; writes end at two thousand millions."""
    dead_rows: int = 10_000
    dead_share: float = 0.5
    dead_seconds: float = 3600.0
    """A table of which so many rows, and such a share, are dead, and that no vacuum came to for so long."""
    ahead: timedelta = timedelta(days=14)
    """Months are made two ahead: one that lacks so late is not in the making."""
    free_share: float = 0.1
    free_bytes: int = 1_000_000_000
    """Share of a disk that should be free; bytes without which it is full."""
    memory: float = 0.9
    """Share of its memory that a broker may use."""


def utc_now() -> datetime:
    """Return this host's time of day."""
    return datetime.now(UTC)


class Sight:
    """What the checks look through: settings, the place and a connection to it, opened when it is first wanted.

    One check at a time uses the connection. `is_own` says that a host looks at itself alone.
    """

    def __init__(
        self,
        settings: Settings,
        place: Place,
        *,
        is_own: bool = False,
        bounds: Bounds | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.settings = settings
        self.place = place
        self.is_own = is_own
        self.bounds = bounds or Bounds()
        self.now = now
        self.has_server = True
        """False once the server could not be reached."""
        self.has_schema = True
        """False once the schema was found to be another than this program's."""
        self._connection: Connection | None = None
        self._opening = threading.Lock()

    @property
    def runs_work(self) -> bool:
        """Whether workers run with these settings: by an owner's address, or by a worker's own."""
        return self.place.kind in {None, "worker", "system"}

    @property
    def connection(self) -> Connection:
        """The connection, another one where it broke; raises UnavailableError."""
        with self._opening:
            if self._connection is None or self._connection.closed or self._connection.broken:
                self._connection = self._open()
            return self._connection

    @cached_property
    def models(self) -> "Models":
        """The models that workers with these settings know."""
        from pipelines.documents.embedders import Models

        return Models(self.settings)

    def connect(self, url: str, *, pooled: bool = False) -> Connection:
        """Open another connection, whose answers are waited for as long as bounds say; raises UnavailableError."""
        seconds = self.bounds.answer
        return connect(url, name="doctor", pooled=pooled, timeout=max(2, int(seconds)), answer_seconds=seconds + 1)

    def _open(self) -> Connection:
        try:
            return self.connect(self.place.login("operator"), pooled=self.place.is_pooled)
        except UnavailableError:
            self.has_server = False
            raise

    def lose(self) -> None:
        """Leave the connection to whoever is stuck in it; the next check gets another."""
        self._connection = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


Look = Callable[[Sight], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at.

    `finds` says what may be wrong, for the list in the documentation. Checks that need the database are made one after
    the other, others beside them. `is_own` ones are a host's own health, `is_deep` ones are made when asked for.
    """

    name: str
    finds: str
    look: Look
    needs: Needs = "schema"
    is_own: bool = False
    is_deep: bool = False


def check(
    name: str, *, finds: str, needs: Needs = "schema", is_own: bool = False, is_deep: bool = False
) -> Callable[[Look], Check]:
    """Make a check of the function below; its docstring says what is well."""
    return lambda look: Check(name=name, finds=finds, look=look, needs=needs, is_own=is_own, is_deep=is_deep)
