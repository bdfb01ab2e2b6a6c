"""The socket between a parent and a child that works: it says `ready` and `leaving`, and ends with whoever ends first.

A child has its end as standard input, where nothing that it starts looks for it.
"""

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress

READY, LEAVING = b"ready\n", b"leaving\n"

# How a child ends that is not to be taken for one that crashed (sysexits.h: EX_TEMPFAIL, EX_CONFIG).
RECYCLED = 75
REFUSED = 78


class Lifeline:
    """The child's end; without a parent, words go nowhere."""

    def __init__(self, to_parent: socket.socket | None) -> None:
        self._to_parent = to_parent

    @property
    def has_parent(self) -> bool:
        """Whether somebody started this process to supervise it."""
        return self._to_parent is not None

    def say(self, word: bytes) -> None:
        """Tell the parent, if it is still there."""
        if self._to_parent is not None:
            with suppress(OSError):
                self._to_parent.sendall(word)

    def when_cut(self, act: Callable[[], None]) -> None:
        """Call `act` when the parent is gone, however it ended."""
        if self._to_parent is not None:
            threading.Thread(target=self._watch, args=(self._to_parent, act), name="lifeline", daemon=True).start()

    def _watch(self, to_parent: socket.socket, act: Callable[[], None]) -> None:
        with suppress(OSError):
            to_parent.recv(1)  # a parent says nothing
        act()


def take_lifeline() -> Lifeline:
    """Return the lifeline that standard input is, if it is one, and put an empty file in its place."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return Lifeline(None)
    to_parent = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    # What a handler forks may outlive us: with the line in its hands, our parent would not hear that we ended.
    os.register_at_fork(after_in_child=to_parent.close)
    return Lifeline(to_parent)
