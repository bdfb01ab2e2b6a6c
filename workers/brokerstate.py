"""What a Redis tells of itself, for `doctor`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from core.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class BrokerState:
    """Its clock, its memory in bytes (`most` is 0 where it has no limit), and whether it takes writes.

    `evicts` is what it does when memory is short, None where it refuses writes then.
    """

    now: datetime
    used: int
    most: int
    evicts: str | None
    is_replica: bool


def broker_state(url: str, seconds: float) -> BrokerState:
    """Ask the Redis of an address; raises UnavailableError when it does not answer within `seconds`, or not to us."""
    try:
        with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            whole, micro = client.time()
            return _state(datetime.fromtimestamp(whole + micro / 1e6, UTC), client.info())
    except (redis.RedisError, ValueError, OSError) as error:  # ValueError: it is no address of a Redis
        raise UnavailableError(f"the broker does not answer: {type(error).__name__}") from error


def _state(now: datetime, info: dict[str, Any]) -> BrokerState:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return BrokerState(
        now=now,
        used=int(info.get("used_memory", 0)),
        most=int(info.get("maxmemory", 0)),
        evicts=None if policy == "noeviction" else policy,
        is_replica=info.get("role") == "slave",
    )
