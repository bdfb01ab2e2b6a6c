"""What a server of IMAP may send: each of its answers is bounded in bytes and in time, whatever it announces.

imaplib reads a literal of the size that the server names, and waits for each piece of it as long as the socket's
timeout: a server could fill the memory, or hold a thread for days with a byte a minute.
"""

import imaplib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

_PIECE: Final = 1 << 16
_LINE: Final = 1_000_000
SLACK: Final = 4_000_000
"""Bytes that an answer may have beside what was asked for: lists of folders and of mails, words of the server."""


class BoundedReader:
    """Reads for a connection of imaplib in its place. `begin` before each command says what its answer may take."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._left = SLACK
        self._deadline = 0.0
        self.begin()
        connection.read, connection.readline = self.read, self.readline

    def begin(self, size: int = 0) -> None:
        """Let the next answer have so many bytes more than answers have by themselves, and its time begin."""
        self._left = SLACK + size
        self._deadline = time.monotonic() + self._seconds

    def read(self, size: int) -> bytes:
        """Read a literal. Raises imaplib's abort, TimeoutError and OSError, as `readline` does."""
        if size > self._left:
            raise imaplib.IMAP4.abort("the answer is larger than what was asked for")
        pieces = []
        while size > 0 and (piece := self._take(partial(_up_to, most=min(size, _PIECE)))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def readline(self) -> bytes:
        """Read a line; the end of the stream is an empty one."""
        line = bytearray()
        while not line.endswith(b"\n") and (piece := self._take(_to_line_end)):
            line += piece
            if len(line) > _LINE:
                raise imaplib.IMAP4.abort(f"a line of more than {_LINE} bytes")
        return bytes(line)

    def _take(self, read: Callable[[Any], bytes]) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError
        piece = read(self._connection.file)
        self._left -= len(piece)
        if self._left < 0:
            raise imaplib.IMAP4.abort("the answer is larger than what was asked for")
        return piece


def _to_line_end(file: Any) -> bytes:
    waiting = file.peek(1)
    found: bytes = file.read1(waiting.find(b"\n") + 1 or len(waiting)) if waiting else b""
    return found


def _up_to(file: Any, most: int) -> bytes:
    found: bytes = file.read1(most)
    return found
