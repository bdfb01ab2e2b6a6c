"""Handlers that harm the process that they run in."""

import random

from tests.faults.fleet import Fleet
from tests.faults.tasks import HOW, Hostile
from tests.support.waiting import eventually

_BEGUN = "SELECT count(*) FROM queue.outbox_tasks WHERE id = ANY (%s) AND started_at IS NOT NULL"


def handlers_hostile(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """Run one handler of each kind beside others; return how many have begun."""
    ids = [fleet.rig.enqueue([Hostile(how=how)])[0] for how in draw.sample(HOW, len(HOW))]

    def have_begun() -> bool:
        fleet.rig.tend()
        return int(fleet.rig.database.value(_BEGUN, (ids,))) == len(ids)

    eventually(have_begun, 60, pause=0.1)
    return len(ids)
