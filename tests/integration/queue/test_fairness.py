"""Fairness: small tenants beside large ones, high priorities before low ones, nobody for ever; with limits too."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from uuid import UUID

import pytest

from db.connection import Connection
from db.queue import Capacity, Claim, Starter
from pipelines.enqueue import enqueue_many
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Noop
from workers.claiming import Claimer

SLOTS = 20
WANTED = Capacity("default", SLOTS, ["test.noop"], [1], [1])
_CONCURRENCY = "INSERT INTO queue.limits (kind, name, concurrency) VALUES "
_RATE = "INSERT INTO queue.limits (kind, name, rate, rate_seconds, burst) VALUES "
LIMITS = {
    "none": "",
    "queue": _CONCURRENCY + "('queue', 'default', 12)",
    "types and keys": _CONCURRENCY + "('task_type', '*', 12), ('key', '*', 8)",
    "rate": _RATE + "('queue', 'default', 12, 0.001, 12)",
}


class Relays:
    """Two relays that claim in turn; what they claimed has ended before the next does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.wanted = WANTED
        self._now = 0.0
        claimers = [Claimer(limit=100, claim_seconds=30.0, clock=lambda: self._now) for _ in range(2)]
        self._turns = cycle([(claimer, database.connect("relay")) for claimer in claimers])

    def look_again(self) -> None:
        """Let the time pass after which a relay looks at all of a queue."""
        self._now += 1.0

    def started(self) -> Iterator[Claim]:
        """Yield tasks in the order in which they start."""
        fruitless = 0
        while fruitless < 2:
            claimer, connection = next(self._turns)
            claims = claimer.claim(connection, self.wanted).claims
            self._end(claims)
            fruitless = 0 if claims else fruitless + 1
            yield from claims

    def _end(self, claims: list[Claim]) -> None:
        self._database.rows("DELETE FROM queue.tasks_live WHERE id = ANY (%s)", ([c.task_id for c in claims],))


@pytest.fixture(params=list(LIMITS.values()), ids=list(LIMITS))
def relays(request: pytest.FixtureRequest, database: Database, line: Line) -> Relays:
    """Two relays over a queue with this kind of limit."""
    if request.param:
        database.rows(request.param)
    return Relays(database)


@pytest.fixture
def operator(database: Database) -> Connection:
    """Who enqueues for any tenant."""
    return database.connect("operator")


def places(relays: Relays, wanted: set[UUID], first: int) -> list[int]:
    """Return which of the first tasks to start are the wanted ones."""
    started = [claim.task_id for claim, _ in zip(relays.started(), range(first), strict=False)]
    return [place for place, task_id in enumerate(started) if task_id in wanted]


@pytest.mark.parametrize("key", [None, "k"])
def test_ten_tasks_behind_ten_thousand_start_within_the_first_200(
    database: Database, operator: Connection, relays: Relays, key: str | None
) -> None:
    small: UUID = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    kept = {} if key is None else {"limit_key": key}
    enqueue_many(operator, [Noop(n=n) for n in range(10_000)], **kept)  # type: ignore[arg-type]  # a dict of one option
    behind = set(enqueue_many(operator, [Noop(n=n) for n in range(10)], tenant_id=small))
    assert len(places(relays, behind, 200)) == 10


@pytest.mark.parametrize(("is_started", "batch_size"), [(False, 1), (True, 100)])
def test_where_slots_become_free_one_by_one_tenants_take_turns(
    database: Database, operator: Connection, line: Line, relays: Relays, is_started: bool, batch_size: int
) -> None:
    """Each relay has one slot at a time: of each tenant a task, or a message that fills up."""
    starter = Starter(line.process.id, 30.0, [60.0]) if is_started else None
    relays.wanted = Capacity("default", 1, ["test.noop"], [1], [batch_size], starter)
    small: UUID = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
    enqueue_many(operator, [Noop(n=n) for n in range(3_000)])
    behind = set(enqueue_many(operator, [Noop(n=n) for n in range(10)], tenant_id=small))
    assert len(places(relays, behind, 200)) == 10


def test_a_high_priority_overtakes_what_waits(operator: Connection, relays: Relays) -> None:
    enqueue_many(operator, [Noop(n=n) for n in range(500)])
    assert places(relays, set(), 40) == []
    urgent = set(enqueue_many(operator, [Noop(n=n) for n in range(5)], priority=10))
    relays.look_again()
    assert places(relays, urgent, 5) == [0, 1, 2, 3, 4]


def test_a_low_priority_is_overtaken_for_minutes_and_not_for_ever(operator: Connection, relays: Relays) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=21)
    young = set(enqueue_many(operator, [Noop(n=n) for n in range(5)], priority=-10))
    old = set(enqueue_many(operator, [Noop(n=n) for n in range(5)], priority=-10, run_after=long_ago))
    enqueue_many(operator, [Noop(n=n) for n in range(100)], priority=10)
    order = [claim.task_id for claim in relays.started()]
    assert set(order[:5]) == old, "ten priorities above it are worth ten minutes, ten below it ten more"
    assert set(order[-5:]) == young
