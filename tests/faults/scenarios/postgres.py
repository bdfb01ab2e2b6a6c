"""Harm to Postgres, and to the connections that lead to it."""

import contextlib
import random
import time

import psycopg

from tests.faults.fleet import Fleet
from tests.faults.proxy import When
from tests.support.waiting import eventually, pass_time

_BACKENDS = """
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND usename LIKE 'greenroom%' AND usename <> 'greenroom_owner'
"""
_COMMITS = 3
_MOST_SECONDS = 60.0


def backends_terminated(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Terminate every backend of the fleet, twice a second."""
    ended, until = 0, time.monotonic() + seconds
    with fleet.superuser() as connection:
        while time.monotonic() < until:
            [found] = connection.execute("SELECT count(pg_terminate_backend(pid))" + _BACKENDS).fetchall()
            ended += found[0]
            fleet.feed(8, 0, draw)
            pass_time(0.5)
    return ended


def server_restarted(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Stop Postgres in order, and start it."""
    return _restart(fleet, at_once=False)


def server_crashed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Stop Postgres as a crash leaves it (an immediate shutdown), and start it."""
    return _restart(fleet, at_once=True)


def commit_unheard(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Cut workers off when their COMMIT passes, before the server has it."""
    return _cut_commits(fleet, draw, "before")


def commit_unanswered(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Cut workers off when their COMMIT was done, before they hear of it."""
    return _cut_commits(fleet, draw, "after")


def connections_reset(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Reset all connections, again and again."""
    until, ended = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        ended += fleet.postgres.reset()
        fleet.feed(8, 0, draw)
        pass_time(draw.uniform(0.2, 0.6))
    return ended


def connections_half_open(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Let nothing pass on the connections that there are; new ones work. At the end the line ends them."""
    held = fleet.postgres.hold()
    fleet.feed(8, 0, draw)
    pass_time(seconds)
    return held


def server_unreachable(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Swallow whatever is sent to Postgres, by new connections too."""
    held = fleet.postgres.black_hole()
    pass_time(seconds)
    return held


def connections_slow(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Let every piece take its time, both ways."""
    fleet.postgres.slow(0.05)
    fleet.feed(8, 0, draw)
    pass_time(seconds)
    return 1


def connections_cut(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Reset each connection after some random thousands of bytes."""
    before = fleet.postgres.hits["cut"]
    fleet.postgres.cut_after(600, 20_000, draw)
    fleet.postgres.reset()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        fleet.feed(8, 0, draw)
        pass_time(0.5)
    return fleet.postgres.hits["cut"] - before


def failed_over(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Refuse every write as a standby does, then end the connections: what is dialled next takes writes again."""
    with fleet.superuser() as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            pass_time(seconds)
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
    return fleet.postgres.reset()


def connections_exhausted(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Take every connection that the server has, and end those of the fleet: whoever dials is refused (53300)."""
    with contextlib.ExitStack() as stack, fleet.superuser() as connection:
        taken = _take_all(fleet, stack)
        connection.execute("SELECT pg_terminate_backend(pid)" + _BACKENDS)
        taken += _take_all(fleet, stack)
        pass_time(seconds)
        return taken


def _take_all(fleet: Fleet, stack: contextlib.ExitStack) -> int:
    taken = 0
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            stack.enter_context(psycopg.connect(fleet.rig.database.owner_url, autocommit=True))
            taken += 1
    return taken


def _restart(fleet: Fleet, *, at_once: bool) -> int:
    fleet.rig.stop_server(at_once=at_once)
    fleet.rig.start_server()
    return 1


def _cut_commits(fleet: Fleet, draw: random.Random, when: When) -> int:
    before = fleet.postgres.hits["commit"]
    fleet.postgres.cut_commits(_COMMITS, when, only=b"greenroom_worker")

    def are_cut() -> bool:
        fleet.feed(8, 0, draw)
        return fleet.postgres.hits["commit"] - before >= _COMMITS

    eventually(are_cut, _MOST_SECONDS, pause=0.5)
    return fleet.postgres.hits["commit"] - before
