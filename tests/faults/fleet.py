"""The fleet: a rig whose processes reach Postgres and Redis through proxies that scenarios give orders to."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from db.embedded import EmbeddedServer
from tests.faults.proxy import Proxy, postgres_proxy, redis_proxy
from tests.faults.rig import Rig, rig
from tests.faults.tasks import Effect, Slow
from tests.faults.valkey import Valkey
from tests.support.waiting import eventually

# Shorter than the rig's: most scenarios end when a claim or a lease does.
TIMES = {
    "RELAY_CLAIM_SECONDS": "2",
    "RELAY_PROCESS_TIMEOUT": "3",
    "WORKER_LEASE_SECONDS": "3",
    "WORKER_GRACE_SECONDS": "2",
    "WORKER_THREADS": "4",
}
_PATIENCE_SECONDS = 60.0
Harm = Callable[["Fleet", random.Random, float], int]


class Fleet:
    """Relays and workers of a rig, and what stands between them and their servers."""

    def __init__(self, running: Rig, postgres: Proxy, redis: Proxy, valkey: Valkey) -> None:
        self.rig = running
        self.postgres = postgres
        self.redis = redis
        self.valkey = valkey

    def add(self, *, relays: int = 1, workers: int = 2) -> None:
        """Start processes and wait until the workers serve."""
        for kind, count in (("relay", relays), ("worker", workers)):
            for _ in range(count):
                self.rig.add(kind, **self.settings(kind))
        self.rig.await_workers()

    def settings(self, kind: str) -> dict[str, str]:
        """What a process of the fleet is started with, beyond what the rig gives it."""
        return TIMES | {"DATABASE_URL": self.postgres.address(self.rig.database.url(kind))}

    def feed(self, effects: int, slow: int, draw: random.Random) -> None:
        """Enqueue tasks that take a moment, and some that take longer."""
        self.rig.enqueue([Slow(seconds=draw.uniform(0.5, 1.5)) for _ in range(slow)])
        self.rig.enqueue([Effect(seconds=draw.uniform(0, 0.05)) for _ in range(effects)])

    def await_work(self) -> None:
        """Wait until some attempt runs."""
        eventually(lambda: self.rig.tend() and self.rig.in_progress() > 0, 60)

    def superuser(self) -> psycopg.Connection[tuple[int]]:
        """Open a connection past the proxy as the superuser, who is let in where nobody else is."""
        return psycopg.connect(self.rig.database.superuser_url, autocommit=True)

    def heal(self) -> None:
        """Mend whatever a scenario, or one that failed, has left."""
        self.rig.start_server()
        self.valkey.start()
        self.valkey.set("maxmemory", "0")
        self.postgres.heal()
        self.redis.heal()
        self.rig.tend()
        for member in self.rig.members:
            member.thaw()


def suffer(fleet: Fleet, harm: Harm, draw: random.Random, seconds: float) -> int:
    """Do harm to a fleet at work and mend it; return how often it hit. What was fed may still be under way."""
    fleet.feed(40, 4, draw)
    fleet.await_work()
    try:
        hits = harm(fleet, draw, seconds)
    finally:
        fleet.heal()
    fleet.feed(20, 0, draw)
    return hits


def undergo(fleet: Fleet, harm: Harm, draw: random.Random, seconds: float) -> int:
    """Suffer harm, and wait until every task has ended; return how often it hit."""
    hits = suffer(fleet, harm, draw, seconds)
    fleet.rig.await_end(_PATIENCE_SECONDS)
    return hits


@contextmanager
def fleet(server: EmbeddedServer, home: Path, template: str, *, relays: int = 1, workers: int = 2) -> Iterator[Fleet]:
    """A fleet over a database and a Redis of its own."""
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey(home / "valkey"))
        redis = stack.enter_context(redis_proxy(valkey.url))
        running = stack.enter_context(rig(server, home, template, redis.redis_url))
        postgres = stack.enter_context(postgres_proxy(running.database.owner_url))
        made = Fleet(running, postgres, redis, valkey)
        made.add(relays=relays, workers=workers)
        yield made
