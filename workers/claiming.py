"""Claims the due tasks of one queue, fairly among tenants, and without walking over what was claimed already.

A claimed task leaves the claim's index only when a vacuum comes by, and not even then while an old transaction is open.
So a claim goes on from the ranks that the one before has reached; every so often, and whenever nothing was found, it
looks at all of the queue again, for what came in below, for tenants and keys that are new, and for limits: one that is
set while tasks are claimed holds from the next look on. Once all was claimed, the next few are claimed in the same step
as they are found: whoever enqueues one task waits for one round trip less.
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from db import limits, queue
from db.connection import Connection

# Lanes that one claim goes through; more take their turn in the looks that follow.
_LANES = 200
# Seconds between looks at all of a queue; where a look takes long, it takes at most a twentieth of the time.
_LOOK_SECONDS, _MOST_LOOK_SECONDS, LOOK_SHARE = 0.25, 15.0, 20
# A look that takes this long walks over what was claimed already: it is not repeated for each task that comes.
DEAR_SECONDS = _LOOK_SECONDS / LOOK_SHARE
# What is claimed of each lane where there had been nothing: whoever finds more looks how much it is.
_FIRST_EACH = 8
# Tenants whose last turn is remembered, and claims counted, before both are forgotten.
_MOST_SERVED, _MOST_CLAIMS = 10_000, 2**30
# Seconds between looks whether a limited task has ended: few at first, since nobody tells of those of other processes.
_FULL_PAUSES = (0.002, 0.5)


class Claimed(NamedTuple):
    """What was claimed, in the order in which it shall run, and whether that was all there was.

    `wait` is in how many seconds limits may let more in, None where none holds anything up.
    """

    claims: list[queue.Claim]
    is_all: bool
    wait: float | None = None


class Claimer:
    """Where the claims of one queue go on; one relay's own, for one thread. `is_limited`: the last look met limits."""

    def __init__(self, *, limit: int, claim_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._from_ranks: dict[queue.Lane, int] = {}
        self._first_lane = queue.FIRST_LANE
        self._is_whole = False
        self.is_limited = False
        self._has_limited_types = False
        self._is_drained = False
        self._is_dear = False
        self._full_rounds = 0
        self._look_at = 0.0
        self._served: dict[UUID, int] = {}
        self._claims = 0

    def claim(self, connection: Connection, wanted: queue.Capacity) -> Claimed:
        """Claim what is due, what fits into the free slots, and what limits let in."""
        if (found := self._go_on(connection, wanted)) is not None:
            return found
        if self._is_drained and not self.is_limited and (found := self._claim_first(connection, wanted)):
            return found
        self._look(connection, wanted)
        if not self._from_ranks:
            self._is_drained = self._is_whole
            return Claimed([], self._is_whole)
        return self._claim_what_was_found(connection, wanted)

    def _go_on(self, connection: Connection, wanted: queue.Capacity) -> Claimed | None:
        """Claim where the claim before has ended; None where it is time to look."""
        now = self._clock()
        if not self._from_ranks or now >= self._look_at:
            return None
        found = self._claim(connection, wanted)
        if found.claims:
            return found
        if found.wait is not None and self._is_whole:
            return found._replace(wait=min(found.wait, self._look_at - now))  # what came since may be let in
        return None

    def _claim_what_was_found(self, connection: Connection, wanted: queue.Capacity) -> Claimed:
        found = self._claim(connection, wanted)
        if self.is_limited:
            return found if found.claims or self._is_whole else found._replace(wait=self._wait_of_some(found))
        if not found.claims and self._first_lane != queue.FIRST_LANE:
            return found._replace(wait=0.0)  # nobody may run what these lanes have: on to the next of them
        is_all = self._is_whole and len(found.claims) < -(-self._most(wanted) // len(self._from_ranks))
        is_all = is_all and _leaves_room(found.claims, wanted)
        self._is_drained = is_all and not self._is_dear
        if self._is_drained:
            self._look_at = 0.0  # whatever comes next may be anybody's
        return found._replace(is_all=is_all)

    def _claim_first(self, connection: Connection, wanted: queue.Capacity) -> Claimed | None:
        """Claim what little there may be; None where a look has to say what there is."""
        started, seconds = self._clock(), self._claim_seconds
        claims = queue.claim_first(connection, wanted, lanes=_LANES, each=_FIRST_EACH, claim_seconds=seconds)
        found = Counter(_lane_of(claim) for claim in claims)
        is_all = len(found) < _LANES and all(count < _FIRST_EACH for count in found.values())
        is_all = is_all and _leaves_room(claims, wanted)
        self._is_drained = is_all and self._clock() - started < DEAR_SECONDS
        return Claimed(claims, is_all) if claims else None

    def _look(self, connection: Connection, wanted: queue.Capacity) -> None:
        """Find the lanes that have due tasks, and whether limits apply to them."""
        started = self._clock()
        found = queue.due_lanes(connection, wanted, first=self._first_lane, limit=_LANES)
        took = self._clock() - started
        self._is_dear = took >= DEAR_SECONDS
        self._look_at = started + took + max(_LOOK_SECONDS, min(took * LOOK_SHARE, _MOST_LOOK_SECONDS))
        self._is_whole = self._first_lane == queue.FIRST_LANE and len(found) < _LANES
        # Those behind the last one are next; behind the very last, it begins again.
        self._first_lane = _behind(found[-1].lane) if len(found) == _LANES else queue.FIRST_LANE
        self._from_ranks = {due.lane: queue.FIRST_RANK for due in found}
        self._has_limited_types = any(due.has_limited_types for due in found)
        self.is_limited = self._has_limited_types or any(due.is_limited for due in found)

    def _claim(self, connection: Connection, wanted: queue.Capacity) -> Claimed:
        reach = queue.Reach(self._from_ranks, self._most(wanted), self._claim_seconds, self._served)
        if not self.is_limited:
            claims = queue.claim(connection, wanted, reach)
            self._serve(claims)
            self._go_on_behind(claims)
            return Claimed(claims, False)
        admitted = limits.claim(connection, wanted, reach)
        self._serve(admitted.claims)
        if not self._has_limited_types:  # what a type's limit held up stands below others that were claimed
            self._go_on_behind(admitted.claims)
        if not admitted.claims:
            return Claimed([], False, self._wait(admitted))
        self._full_rounds = 0
        return Claimed(admitted.claims, False)

    def _most(self, wanted: queue.Capacity) -> int:
        """Return how many tasks there is room for at most: no more rows are locked than could be claimed."""
        return min(self._limit, max(1, math.ceil(wanted.free * max(wanted.batch_sizes, default=1))))

    def _wait_of_some(self, found: Claimed) -> float:
        """Return the wait where limits hold up some of the lanes: none until the last of them have been tried."""
        if self._first_lane != queue.FIRST_LANE:
            return 0.0
        return min(_FULL_PAUSES[1], found.wait if found.wait is not None else _FULL_PAUSES[1])

    def _serve(self, claims: list[queue.Claim]) -> None:
        """Remember who was served: where slots become free one by one, tenants take turns from claim to claim."""
        self._claims += 1
        if len(self._served) > _MOST_SERVED or self._claims > _MOST_CLAIMS:
            self._served, self._claims = {}, 1
        self._served.update({claim.tenant_id or queue.NO_TENANT: self._claims for claim in claims})

    def _go_on_behind(self, claims: list[queue.Claim]) -> None:
        for claim in claims:
            lane = _lane_of(claim)
            self._from_ranks[lane] = max(self._from_ranks[lane], claim.rank)

    def _wait(self, admitted: limits.Admitted) -> float | None:
        if not admitted.is_full:
            return admitted.wait
        shortest, longest = _FULL_PAUSES
        pause = min(shortest * 2.0 ** min(self._full_rounds, 20), longest)
        self._full_rounds += 1
        return min(pause, longest if admitted.wait is None else admitted.wait)


def _lane_of(claim: queue.Claim) -> queue.Lane:
    return queue.Lane(claim.tenant_id or queue.NO_TENANT, claim.limit_key or "")


def _leaves_room(claims: list[queue.Claim], wanted: queue.Capacity) -> bool:
    """Return whether more would have fitted, had there been more."""
    return slots_of(claims, wanted) < wanted.free - 1e-6


def slots_of(claims: list[queue.Claim], wanted: queue.Capacity) -> float:
    """Return how many slots claims take: parts of them, or messages where those are what is counted."""
    if wanted.starter is None:
        return sum(1 / claim.batch_size for claim in claims)
    messages = Counter((claim.tenant_id, claim.task_type, claim.batch_size) for claim in claims)
    return sum(-(-count // batch_size) for (*_, batch_size), count in messages.items())


def _behind(lane: queue.Lane) -> queue.Lane:
    """Return the first lane that may stand behind another: no key holds a NUL, and \\x01 comes right after it."""
    return queue.Lane(lane.tenant, f"{lane.key}\x01")
