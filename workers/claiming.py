"""Claims the due tasks of one queue, fairly among tenants, and without walking over what was claimed already.

A claimed task leaves the claim's index only when a vacuum comes by, and not even then while an old transaction is open.
So a claim goes on from the ranks that the one before has reached; every so often, and whenever nothing was found, it
looks at all of the queue again, for what came in below and for tenants that are new.
"""

import time
from collections.abc import Callable
from uuid import UUID

from db import queue
from db.connection import Connection

# Tenants that one claim goes through; more take their turn in the looks that follow.
_TENANTS = 200
# Seconds between looks at all of a queue; where a look takes long, it takes at most a twentieth of the time.
_LOOK_SECONDS, _LOOK_SHARE = 0.25, 20


class Claimer:
    """Where the claims of one queue go on; one relay's own, for one thread."""

    def __init__(self, *, limit: int, claim_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._from_ranks: dict[UUID, int] = {}
        self._first_tenant = queue.NO_TENANT
        self._look_at = 0.0

    def claim(self, connection: Connection, wanted: queue.Capacity) -> tuple[list[queue.Claim], bool]:
        """Return what was claimed, in the order in which it shall run, and whether that was all there was."""
        if self._from_ranks and self._clock() < self._look_at and (claims := self._claim(connection, wanted)):
            return claims, False
        is_whole = self._look(connection, wanted.queue)
        if not self._from_ranks:
            return [], is_whole
        each = -(-self._limit // len(self._from_ranks))
        claims = self._claim(connection, wanted)
        is_all = is_whole and len(claims) < each
        if is_all:
            self._look_at = 0.0  # whatever comes next may be anybody's
        return claims, is_all

    def _look(self, connection: Connection, name: str) -> bool:
        """Find the tenants that have due tasks; return whether these are all."""
        started = self._clock()
        tenants = queue.due_tenants(connection, name, first=self._first_tenant, limit=_TENANTS)
        took = self._clock() - started
        self._look_at = started + took + max(_LOOK_SECONDS, took * _LOOK_SHARE)
        is_whole = self._first_tenant == queue.NO_TENANT and len(tenants) < _TENANTS
        # Those behind the last one are next; behind the very last, it begins again.
        self._first_tenant = UUID(int=tenants[-1].int + 1) if len(tenants) == _TENANTS else queue.NO_TENANT
        self._from_ranks = dict.fromkeys(tenants, queue.FIRST_RANK)
        return is_whole

    def _claim(self, connection: Connection, wanted: queue.Capacity) -> list[queue.Claim]:
        claims = queue.claim(connection, wanted, self._from_ranks, limit=self._limit, claim_seconds=self._claim_seconds)
        for claim in claims:
            tenant = claim.tenant_id or queue.NO_TENANT
            self._from_ranks[tenant] = max(self._from_ranks[tenant], claim.rank)
        return claims
