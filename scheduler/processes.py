"""The process that this layer makes: a scheduler with its loops, its start and its stop."""

import threading

from core import events
from core.service import Loop, lateness, stop_all
from core.settings import Settings
from db.beat import Beat
from db.connection import KeptConnection
from db.processes import this_process
from scheduler.service import Firing, Timer


class SchedulerProcess:
    """The scheduler's loops in this process; any number of such processes fire each schedule once."""

    def __init__(self, settings: Settings, url: str, *, pooled: bool = False) -> None:
        self.process = this_process("scheduler")
        self._is_stopped = threading.Event()

        def near(name: str) -> KeptConnection:
            return KeptConnection(url, name=name, pooled=pooled)

        self._firing = Loop(Firing(near("scheduler"), settings.scheduler, Timer(self.wake)))
        timeout = settings.relay.process_timeout
        beat = Beat(near("beat"), self.process, lambda: lateness(self.loops), timeout=timeout)
        self.loops = [Loop(beat), self._firing]

    def wake(self) -> None:
        """Look for due schedules now."""
        self._firing.wake()

    def start(self) -> None:
        """Start all loops."""
        for loop in self.loops:
            loop.start()
        events.emit(events.ProcessStarted("scheduler", self.process.id))

    def stop(self) -> None:
        """Stop all loops; twice is fine."""
        if self._is_stopped.is_set():
            return
        self._is_stopped.set()
        stop_all(self.loops)
        events.emit(events.ProcessStopped("scheduler", self.process.id))
