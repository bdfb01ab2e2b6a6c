"""A process that works: `python -m console.child up|relay|worker|prepare`, a supervisor's child or by itself.

Runs until it is told to stop, or its parent is gone: what runs has the grace time then. Or until it wants to be
recycled: it takes nothing more then, and lets what runs come to its end. `prepare` brings the database to where the
others can work with it, and ends: what that needs is not kept in memory.
"""

import logging
import os
import sys
import threading
from functools import partial
from typing import Protocol

import psycopg

from console import output
from console.addresses import Place
from console.lifeline import LEAVING, READY, RECYCLED, REFUSED, Lifeline, take_lifeline
from console.runtime import await_database, beside_or_given, end, observe, settings, when_database_answers
from console.signals import stop_event
from core import events
from core.errors import GreenroomError
from core.settings import Settings

_LOOK_SECONDS = 0.25


class Serving(Protocol):
    """What a child runs: relay, worker, scheduler, watcher, or several of them."""

    def start(self) -> None:
        """Begin to serve."""
        ...

    def quiesce(self) -> None:
        """Take nothing more; what runs goes on."""
        ...

    def is_idle(self) -> bool:
        """Whether nothing runs any more."""
        ...

    def stop(self) -> bool:
        """End within the grace time; return whether every thread ended."""
        ...


class Departure:
    """The wish to be recycled, with its reason: whoever wants it first."""

    def __init__(self, kind: str, line: Lifeline) -> None:
        self._kind = kind
        self._line = line
        self.is_wanted = threading.Event()

    def leave(self, reason: str) -> None:
        """Ask for a successor and an end; without a parent nobody would succeed, so this process stays."""
        if self._line.has_parent and not self.is_wanted.is_set():
            self.is_wanted.set()
            events.emit(events.ProcessLeaving(self._kind, os.getpid(), reason))


def main() -> int:
    """Serve, and return the exit status."""
    kind, line, stopping = sys.argv[1], take_lifeline(), stop_event()
    line.when_cut(stopping.set)
    try:
        observe(kind)
        if kind == "prepare":
            _prepare(settings(), stopping)
            return 0
        departure = Departure(kind, line)
        serving = _serving(kind, settings(), departure, stopping, is_child=line.has_parent)
    except (GreenroomError, psycopg.Error) as error:
        output.show_error(str(error))
        return REFUSED if line.has_parent else 1
    if serving is None:
        return 0
    is_drained = _serve(serving, line, departure, stopping)
    status = RECYCLED if departure.is_wanted.is_set() else 0
    if not is_drained:
        # Threads that ignored the grace time would hold the interpreter's end up; their attempts were handed back.
        end()
        os._exit(status)
    return status


def _serve(serving: Serving, line: Lifeline, departure: Departure, stopping: threading.Event) -> bool:
    """Serve until the end is wanted, whoever wants it; return whether every thread ended."""
    serving.start()
    line.say(READY)
    while not stopping.wait(_LOOK_SECONDS) and not departure.is_wanted.is_set():
        pass
    if departure.is_wanted.is_set():
        line.say(LEAVING)
        serving.quiesce()
        while not serving.is_idle() and not stopping.wait(_LOOK_SECONDS):
            pass
    return serving.stop()


def _serving(
    kind: str, found: Settings, departure: Departure, stopping: threading.Event, *, is_child: bool
) -> Serving | None:
    """Return what this kind runs, as soon as the database answers; None if told to stop before."""
    place = beside_or_given(found)
    if kind == "relay":
        if not await_database(place, kind, stopping, is_child=is_child):
            return None
        return _WithCompanions(_RelayAlone(place), place)
    from console.engine import Engine, handlers_of
    from pipelines.publish import publish_types
    from workers.processes import WorkerProcess, broker_of

    registry, resources = handlers_of(found)
    publish = partial(publish_types, registry=registry)
    if not await_database(place, "worker", stopping, publish, is_child=is_child):
        return None
    if kind == "up":
        return _WithCompanions(Engine(place, registry, resources, departure.leave), place)
    worker = place.process("worker")
    return WorkerProcess(found, worker, broker_of(found), registry, resources, on_leave=departure.leave)


def _prepare(found: Settings, stopping: threading.Event) -> None:
    """Make the database ready for work, as its owner, as soon as it answers."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it loads is no operator's news
    from console.setup import create_folder, prepare

    url = beside_or_given(found).owner_direct()

    def start() -> None:
        prepare(url, found)
        create_folder(url, found)

    when_database_answers(start, "up", stopping)


class _RelayAlone:
    """A relay as a child runs it: it has nothing that would have to come to its end."""

    def __init__(self, place: Place) -> None:
        from workers.processes import RelayProcess, broker_of

        self._relay = RelayProcess(place.settings, place.process("relay"), broker_of(place.settings))

    def start(self) -> None:
        """Begin to serve."""
        self._relay.start()

    def quiesce(self) -> None:
        """Claim nothing more."""
        self._relay.stop()

    def is_idle(self) -> bool:
        """Whether nothing runs any more."""
        return True

    def stop(self) -> bool:
        """End."""
        self._relay.stop()
        return True


class _WithCompanions:
    """A scheduler and a watcher of mailboxes beside the relay of this process: as many as there are of those."""

    def __init__(self, serving: Serving, place: Place) -> None:
        from scheduler.processes import SchedulerProcess
        from workers.watcher import WatcherProcess

        self._serving = serving
        self._companions: list[SchedulerProcess | WatcherProcess] = [
            SchedulerProcess(place.settings, place.login("scheduler"), pooled=place.is_pooled)
        ]
        if place.settings.mail.watch and place.system_url is not None:
            url, pooled = place.watcher()
            self._companions.append(WatcherProcess(place.settings, url, pooled=pooled))

    def start(self) -> None:
        """Start all."""
        self._serving.start()
        for each in self._companions:
            each.start()

    def quiesce(self) -> None:
        """Take nothing and fire nothing more."""
        self._serving.quiesce()
        self._stop_companions()

    def is_idle(self) -> bool:
        """Whether nothing runs any more: the companions have nothing that would have to come to its end."""
        return self._serving.is_idle()

    def stop(self) -> bool:
        """End all; return whether every thread of the first ended within the grace time."""
        self._stop_companions()
        return self._serving.stop()

    def _stop_companions(self) -> None:
        for each in self._companions:
            each.stop()


if __name__ == "__main__":
    status = main()
    end()
    sys.exit(status)
