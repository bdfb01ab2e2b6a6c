"""Harm to Redis, which holds nothing that Postgres does not."""

import random
import time

import redis

from tests.faults.fleet import Fleet
from tests.support.waiting import pass_time

_LONGEST_FREEZE = 1.0


def redis_flushed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Empty it while messages wait in it, again and again; return how many messages were lost."""
    until, lost = time.monotonic() + seconds, 0
    while not lost or time.monotonic() < until:
        lost += _flush_messages(fleet, draw)
        pass_time(0.2)
    return lost


def _flush_messages(fleet: Fleet, draw: random.Random) -> int:
    """Flush what waits for workers that are frozen for as long as that takes, much less than a lease."""
    key = f"{fleet.rig.database.name}:default"
    workers = [worker for worker in fleet.rig.workers if worker.status() is None]
    for worker in workers:
        worker.freeze()
    try:
        fleet.feed(40, 4, draw)
        with fleet.valkey.client() as client:
            until = time.monotonic() + _LONGEST_FREEZE
            while not (waiting := int(client.llen(key))) and time.monotonic() < until:
                pass_time(0.02)
            client.flushall()
    finally:
        for worker in workers:
            worker.thaw()
    return waiting


def redis_restarted(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Stop it in order and start it, empty."""
    return _restart(fleet, draw, seconds, at_once=False)


def redis_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Kill it, and start it, empty."""
    return _restart(fleet, draw, seconds, at_once=True)


def redis_out_of_memory(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Leave it no memory for another message (`noeviction`)."""
    fleet.valkey.set("maxmemory-policy", "noeviction")
    fleet.valkey.set("maxmemory", "1")
    fleet.feed(40, 0, draw)
    pass_time(seconds)
    with fleet.valkey.client() as client:
        try:
            client.set("probe", "1")
        except redis.OutOfMemoryError:
            return 1
    return 0


def redis_unreachable(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Refuse every connection to it."""
    ended = fleet.redis.refuse()
    fleet.feed(20, 0, draw)
    pass_time(seconds)
    return ended


def redis_half_open(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Let nothing pass on the connections to it that there are."""
    held = fleet.redis.hold()
    fleet.feed(20, 0, draw)
    pass_time(seconds)
    return held


def redis_slow(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Let every piece to and from it take its time."""
    fleet.redis.slow(0.05)
    fleet.feed(20, 0, draw)
    pass_time(seconds)
    return 1


def _restart(fleet: Fleet, draw: random.Random, seconds: float, *, at_once: bool) -> int:
    fleet.valkey.stop(at_once=at_once)
    fleet.feed(20, 0, draw)
    pass_time(seconds / 2)
    fleet.valkey.start()
    return 1
