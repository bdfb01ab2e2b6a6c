"""Signals: SIGTERM and SIGINT ask for an orderly end, a second SIGINT ends at once."""

import os
import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def stop_event() -> threading.Event:
    """Return an event that the first SIGTERM or SIGINT sets, for commands that run until told to stop."""
    stopping = threading.Event()
    interrupts = 0

    def ask(number: int, _: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            os._exit(INTERRUPTED)  # the embedded server and the heartbeat see our end and follow
        stopping.set()

    for number in _SIGNALS:
        signal.signal(number, ask)
    return stopping


def interrupt_on_signals() -> None:
    """Let a short command end by KeyboardInterrupt, which stops what it started; a second SIGINT ends at once."""
    was_asked = False

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal was_asked
        if was_asked:
            if number == signal.SIGINT:
                os._exit(INTERRUPTED)
            return  # it is ending already
        was_asked = True
        raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, interrupt)
