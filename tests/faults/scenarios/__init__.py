"""Scenarios: each does one kind of harm to a fleet at work, for a while, and mends it.

A scenario is a function of the fleet, a seeded generator and for how many seconds; it returns how often it hit. What
must hold afterwards is the same for all of them (`checks`). The short form runs SHORT; the long one, and the soak, draw
from ALL.
"""

from tests.faults.fleet import Harm
from tests.faults.scenarios import handlers, postgres, processes, redis

# Cheap, and each of another kind: what a change of the engine breaks first.
SHORT: tuple[Harm, ...] = (
    postgres.backends_terminated,
    postgres.server_crashed,
    postgres.commit_unheard,
    postgres.commit_unanswered,
    postgres.connections_half_open,
    postgres.connections_cut,
    postgres.failed_over,
    processes.machine_killed,
    processes.relay_frozen,
    redis.redis_flushed,
    redis.redis_killed,
)
ALL: tuple[Harm, ...] = (
    *SHORT,
    postgres.server_restarted,
    postgres.connections_reset,
    postgres.server_unreachable,
    postgres.connections_slow,
    postgres.connections_exhausted,
    processes.relay_killed,
    processes.worker_killed,
    processes.heartbeat_killed,
    processes.worker_frozen,
    processes.heartbeat_frozen,
    processes.supervisor_killed,
    redis.redis_restarted,
    redis.redis_out_of_memory,
    redis.redis_unreachable,
    redis.redis_half_open,
    redis.redis_slow,
    handlers.handlers_hostile,
)
