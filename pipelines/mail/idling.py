"""One connection in IDLE (RFC 2177): it waits at a socket that never blocks, for whoever asks many of them in turn.

Of what the server says only the number of mails counts (EXISTS, RECENT); everything else is passed over, unkept.
"""

import re
import socket
import ssl
import time
from enum import Enum, auto
from typing import Final

from pipelines.mail.errors import MailServerError

_PIECE: Final = 1 << 16
_LINE: Final = 1 << 16
# A server that talks without an end is read again in the next round.
_PIECES_A_ROUND: Final = 16
_NEWS: Final = re.compile(rb"\* \d+ (EXISTS|RECENT)\b", re.IGNORECASE)
_TAG: Final = b"GRIDLE"
_AWAY: Final = (BlockingIOError, ssl.SSLWantReadError)


class _State(Enum):
    ASKED = auto()
    IDLE = auto()
    ENDING = auto()


class IdleLine:
    """IDLE on a socket whose folder is open: renewed every `renew` seconds, each answer within `answer` seconds."""

    def __init__(self, connection: socket.socket, *, renew: float, answer: float) -> None:
        self._socket = connection
        self._renew = renew
        self._answer = answer
        self._rest = b""
        connection.setblocking(False)
        self._state, self._deadline = _State.IDLE, 0.0
        self._ask()

    def fileno(self) -> int:
        """Return what a selector watches."""
        return self._socket.fileno()

    def heard(self) -> bool:
        """Read what the server said; return whether mails may have come. Raises MailServerError where it broke off.

        Entering IDLE counts as news: what came before it was told to nobody.
        """
        is_news = False
        for _ in range(_PIECES_A_ROUND):
            piece = self._received()
            if piece is None:
                break
            *lines, self._rest = (self._rest + piece).split(b"\n")
            if len(self._rest) > _LINE:
                raise MailServerError("the server of IDLE sends a line without an end")
            for line in lines:
                is_news |= self._said(line)
        return is_news

    def keep(self) -> None:
        """Renew IDLE if it is time. Raises MailServerError where the server does not answer in time."""
        if time.monotonic() < self._deadline:
            return
        if self._state is not _State.IDLE:
            raise MailServerError("the server of IDLE did not answer in time")
        self._say(b"DONE\r\n")
        self._state, self._deadline = _State.ENDING, time.monotonic() + self._answer

    def close(self) -> None:
        """Break off: there is nothing to be said for goodbye."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            self._socket.close()

    def _said(self, line: bytes) -> bool:
        if line.startswith(b"+") and self._state is _State.ASKED:
            self._state, self._deadline = _State.IDLE, time.monotonic() + self._renew
            return True
        if line.startswith(b"* BYE"):
            raise MailServerError("the server of IDLE said goodbye")
        if line.startswith(_TAG):
            if self._state is not _State.ENDING or not line[len(_TAG) :].lstrip().upper().startswith(b"OK"):
                raise MailServerError("the server does not stay in IDLE")
            self._ask()
        return _NEWS.match(line) is not None

    def _ask(self) -> None:
        self._say(_TAG + b" IDLE\r\n")
        self._state, self._deadline = _State.ASKED, time.monotonic() + self._answer

    def _received(self) -> bytes | None:
        """Return what is there, None where nothing is."""
        try:
            piece = self._socket.recv(_PIECE)
        except _AWAY:
            return None
        except OSError as error:
            raise MailServerError(f"the connection in IDLE broke ({type(error).__name__})") from None
        if not piece:
            raise MailServerError("the server closed the connection in IDLE")
        return piece

    def _say(self, words: bytes) -> None:
        try:
            self._socket.sendall(words)  # a few bytes: a line that does not take them is no line
        except OSError as error:
            raise MailServerError(f"the connection in IDLE broke ({type(error).__name__})") from None
