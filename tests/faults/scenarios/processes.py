"""Harm to the fleet's own processes: each role killed, and frozen for longer than what it holds is good for."""

import contextlib
import random
from collections.abc import Callable

import psutil

from tests.faults.fleet import TIMES, Fleet
from tests.faults.processes import Member
from tests.support.waiting import eventually, pass_time

_MOST_SECONDS = 60.0
_CLAIM_SECONDS = float(TIMES["RELAY_CLAIM_SECONDS"])
_LEASE_SECONDS = float(TIMES["WORKER_LEASE_SECONDS"])
_ORPHANED_SECONDS = 20.0


def relay_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGKILL a relay."""
    relay = draw.choice(fleet.rig.relays)
    relay.kill()
    relay.start()
    return 1


def worker_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGKILL a worker that runs attempts; its heartbeat outlives it and says so."""
    return _on_a_busy_worker(fleet, draw, lambda worker: _replace(worker, with_children=False))


def machine_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGKILL a worker that runs attempts, and its heartbeat: only the leases tell."""
    return _on_a_busy_worker(fleet, draw, lambda worker: _replace(worker, with_children=True))


def heartbeat_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGKILL the heartbeat of a worker, which has to start another."""
    return _on_a_busy_worker(fleet, draw, lambda worker: heartbeat_of(worker).kill())


def relay_frozen(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGSTOP a relay for longer than its claims last, then wake it: it publishes what is no longer its."""
    relay = draw.choice(fleet.rig.relays)
    fleet.feed(80, 0, draw)
    relay.freeze()
    pass_time(_CLAIM_SECONDS * 1.5)
    relay.thaw()
    return 1


def worker_frozen(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGSTOP a worker for longer than its leases last, then wake it: it may write nothing."""

    def freeze(worker: Member) -> None:
        worker.freeze()
        pass_time(_LEASE_SECONDS * 1.5)
        worker.thaw()

    return _on_a_busy_worker(fleet, draw, freeze)


def heartbeat_frozen(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGSTOP a heartbeat for longer than a lease: its worker loses what it runs, and does not know."""

    def freeze(worker: Member) -> None:
        heartbeat = heartbeat_of(worker)
        heartbeat.suspend()
        pass_time(_LEASE_SECONDS * 1.5)
        heartbeat.resume()

    return _on_a_busy_worker(fleet, draw, freeze)


def supervisor_killed(fleet: Fleet, draw: random.Random, seconds: float) -> int:
    """SIGKILL the parent of two workers that run attempts, one of them frozen: both end, the frozen one when woken."""
    parent = fleet.rig.add("worker", launcher=("console",), WORKER_PROCESSES="2", **fleet.settings("worker"))
    frozen, other = draw.sample(eventually(lambda: _busy_children(fleet, parent, draw), _MOST_SECONDS, pause=0.2), 2)
    below = psutil.Process(parent.pid).children(recursive=True)
    frozen.suspend()
    fleet.rig.members.remove(parent)
    parent.kill()
    _, alive = psutil.wait_procs([other, *other.children()], _ORPHANED_SECONDS)
    frozen.resume()
    alive += psutil.wait_procs(below, _ORPHANED_SECONDS)[1]
    assert alive == [], "an orphan goes on"
    return 1


def _busy_children(fleet: Fleet, parent: Member, draw: random.Random) -> list[psutil.Process]:
    """Return a supervisor's two children once both run attempts, which are fed as long as they do not."""
    fleet.rig.tend()
    children = psutil.Process(parent.pid).children()
    if len(children) == 2 and all(fleet.rig.running(child) for child in children):
        return children
    fleet.feed(0, 4, draw)
    return []


def heartbeat_of(worker: Member) -> psutil.Process:
    """Return the process that renews a worker's leases."""

    def look() -> psutil.Process | None:
        for child in psutil.Process(worker.pid).children():
            # A heartbeat that was killed is a zombie until its parent looks, and what a handler forked stays one.
            with contextlib.suppress(psutil.Error):
                if "workers.heartbeat" in child.cmdline():
                    return child
        return None

    found = eventually(look, _MOST_SECONDS)
    assert found is not None
    return found


def _replace(worker: Member, *, with_children: bool) -> None:
    worker.kill(with_children=with_children)
    worker.start()


def _on_a_busy_worker(fleet: Fleet, draw: random.Random, act: Callable[[Member], None]) -> int:
    """Do something to a worker that runs attempts, which are fed as long as none does."""

    def busy() -> Member | None:
        fleet.rig.tend()
        found = [worker for worker in fleet.rig.workers if fleet.rig.running(worker)]
        if not found:
            fleet.feed(0, 2, draw)
        return draw.choice(found) if found else None

    worker = eventually(busy, _MOST_SECONDS, pause=0.2)
    assert worker is not None
    act(worker)
    return 1
