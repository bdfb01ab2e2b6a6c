"""The watcher's process: mailboxes in IDLE. Of many such processes one watches, and another takes over when it ends."""

import threading

from core import events
from core.service import Loop, lateness, stop_all
from core.settings import Settings
from db.beat import Beat
from db.connection import KeptConnection
from db.processes import this_process
from pipelines.mail.watching import WatchConfig, Watching


class WatcherProcess:
    """The watcher's loops in this process; `url` is the system role's, past a pooler where there is another way."""

    def __init__(self, settings: Settings, url: str, *, pooled: bool = False) -> None:
        self.process = this_process("watcher")
        self._is_stopped = threading.Event()
        keys = tuple(key.get_secret_value() for key in settings.encryption.keys)
        config = WatchConfig(settings.mail, url, keys, is_pooled=pooled, is_one=not pooled)
        beat = Beat(
            KeptConnection(url, name="beat", pooled=pooled),
            self.process,
            lambda: lateness(self.loops),
            timeout=settings.relay.process_timeout,
        )
        self.watching = Watching(config)
        self.loops = [Loop(beat), Loop(self.watching)]

    def start(self) -> None:
        """Start all loops."""
        for loop in self.loops:
            loop.start()
        events.emit(events.ProcessStarted("watcher", self.process.id))

    def stop(self) -> None:
        """Stop all loops; twice is fine."""
        if self._is_stopped.is_set():
            return
        self._is_stopped.set()
        stop_all(self.loops)
        events.emit(events.ProcessStopped("watcher", self.process.id))
