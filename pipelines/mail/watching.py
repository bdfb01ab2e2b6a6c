"""Watching mailboxes: one connection each in IDLE, and a poll is enqueued as soon as a server tells of news.

One thread listens to all connections by a selector; a few others log in, since that blocks. Invariant: what a poll that
runs may have missed is rung for again when it has ended. Nothing is lost where nobody watches: the schedule polls.
"""

import selectors
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

from core import events
from core.backoff import Backoff
from core.errors import PermanentError
from core.groups import MailSettings
from db import mail, vault
from db.connection import Connection, KeptConnection, connect
from db.mail import Watched
from db.vault import Stored
from pipelines.mail.access import MailAccess, mail_access, mailbox_session
from pipelines.mail.credentials import open_credential
from pipelines.mail.idling import IdleLine
from pipelines.mail.payloads import PollMailbox
from pipelines.vault.cipher import Cipher, Sealed

_LOGINS: Final = 8
_LOOK: Final = 0.5
_LOOK_SOON: Final = 0.05
_REFUSED_SECONDS: Final = 900.0
_NO_IDLE_SECONDS: Final = 3600.0
# A connection that lived for so long was a good one: the next is made soon.
_SETTLED_SECONDS: Final = 60.0
# A poll that runs is waited for with growing pauses; what it misses for longer is the schedule's.
_RING_AGAIN: Final = Backoff(base=0.25, maximum=15.0)
_MOST_RINGS: Final = 40


class _NoIdleError(Exception):
    """The server does not tell of news by itself."""


@dataclass(slots=True)
class _Line:
    idle: IdleLine
    session: ExitStack

    def close(self) -> None:
        self.idle.close()
        self.session.close()


@dataclass(slots=True)
class _Seat:
    """A mailbox that is to be watched: its connection, or the one that is being made, or when one is to be made."""

    found: Watched
    line: _Line | None = None
    opening: "Future[_Line] | None" = None
    failures: int = 0
    open_at: float = 0.0
    watched_at: float = 0.0


@dataclass(slots=True)
class _News:
    tenant_id: UUID
    ring_at: float = 0.0
    rings: int = 0


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """What a watcher needs: its settings, the system role's address, the keys of the vault, and whether it is alone.

    `is_one` says that of many only one watches, told by a lock of its session; past a pooler it has no session.
    """

    settings: MailSettings
    url: str
    keys: tuple[str, ...]
    is_pooled: bool = False
    is_one: bool = True


@dataclass(slots=True)
class _Doors:
    """How connections are opened: what it takes is made when the first mailbox is there."""

    config: WatchConfig
    access: MailAccess = field(init=False)
    cipher: Cipher = field(init=False)

    def __post_init__(self) -> None:
        self.access = mail_access(self.config.settings)
        self.cipher = Cipher(self.config.keys)

    def open(self, found: Watched, stored: Stored) -> _Line:
        """Log in and begin IDLE. Raises what `mailbox_session` does, and _NoIdleError."""
        renew = partial(self._renew, stored)
        secret = open_credential(self.cipher, stored, found.mailbox.login, self.access.tokens, renew)
        settings = self.config.settings
        with ExitStack() as stack:
            session = stack.enter_context(mailbox_session(self.access, found.mailbox, secret))
            if not session.offers_idle():
                raise _NoIdleError
            session.examine(found.folder)
            idle = IdleLine(session.socket(), renew=settings.idle_seconds, answer=settings.silence_seconds)
            return _Line(idle, stack.pop_all())

    def _renew(self, stored: Stored, sealed: Sealed) -> None:
        with connect(self.config.url, name="mail watch", pooled=self.config.is_pooled) as connection:
            vault.change_secret(connection, stored, sealed.text, sealed.key_id)


class Watching:
    """The service: each round listens for a moment, and now and then reads which mailboxes there are."""

    name = "mail_watch"

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._connection = KeptConnection(config.url, name="mail watch", pooled=config.is_pooled)
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(_LOGINS, thread_name_prefix="mail-login")
        self._doors: _Doors | None = None
        self._seats: dict[UUID, _Seat] = {}
        self._news: dict[UUID, _News] = {}
        self._look_at = 0.0
        self._backoff = Backoff(base=1.0, maximum=300.0)

    @property
    def watching(self) -> int:
        """How many mailboxes are in IDLE."""
        return len(self._selector.get_map())

    def run_once(self) -> float:
        """Listen for a moment; return the seconds until the next round is wanted."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look()
            self._look_at = now + self._config.settings.watch_seconds
        if not self._seats:
            return self._config.settings.watch_seconds
        self._open_due(now)
        self._listen()
        self._ring(time.monotonic())
        return 0.0

    def close(self) -> None:
        """Let all connections go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for mailbox_id in list(self._seats):
            self._leave(mailbox_id)
        self._selector.close()
        self._connection.close()

    def _look(self) -> None:
        """Take the mailboxes that are new or changed, and let those go that are no more to be watched."""
        connection = self._connection.get()
        is_ours = not self._config.is_one or mail.become_watcher(connection)
        listed = mail.watched(connection, self._config.settings.watch_most) if is_ours else []
        found = {each.mailbox.id: each for each in listed}
        for mailbox_id, seat in list(self._seats.items()):
            if found.get(mailbox_id) != seat.found:
                self._leave(mailbox_id)
        for mailbox_id, each in found.items():
            if mailbox_id not in self._seats:
                self._seats[mailbox_id] = _Seat(each)

    def _open_due(self, now: float) -> None:
        free = _LOGINS - sum(seat.opening is not None for seat in self._seats.values())
        for seat in list(self._seats.values()):
            if free <= 0:
                return
            if seat.line is None and seat.opening is None and now >= seat.open_at:
                self._open(seat, self._connection.get())
                free -= 1

    def _open(self, seat: _Seat, connection: Connection) -> None:
        if self._doors is None:
            self._doors = _Doors(self._config)
        mailbox = seat.found.mailbox
        stored = vault.secret_of_id(connection, mailbox.tenant_id, mailbox.secret_id)
        if stored is None:  # it went since
            seat.open_at = time.monotonic() + _REFUSED_SECONDS
        else:
            seat.opening = self._pool.submit(self._doors.open, seat.found, stored)

    def _listen(self) -> None:
        is_opening = any(seat.opening is not None for seat in self._seats.values())
        soon = is_opening or bool(self._news)
        ready = {key.data for key, _ in self._selector.select(_LOOK_SOON if soon else _LOOK)}
        for mailbox_id, seat in self._seats.items():
            if seat.opening is not None and seat.opening.done():
                ready |= self._seated(seat, seat.opening)
            if seat.line is not None:
                self._hear(seat, seat.line, is_ready=mailbox_id in ready)

    def _seated(self, seat: _Seat, opening: "Future[_Line]") -> set[UUID]:
        """Take the connection that was made, which may have said something already, or say why there is none."""
        seat.opening = None
        error = opening.exception()
        if error is None:
            seat.line, seat.watched_at = opening.result(), time.monotonic()
            self._selector.register(seat.line.idle, selectors.EVENT_READ, seat.found.mailbox.id)
            self._tell(seat, "watched")
            return {seat.found.mailbox.id}
        if isinstance(error, _NoIdleError):
            self._wait(seat, "no_idle", _NO_IDLE_SECONDS)
        elif isinstance(error, PermanentError):
            self._wait(seat, "refused", _REFUSED_SECONDS)
        else:
            self._lost(seat)
        return set()

    def _hear(self, seat: _Seat, line: _Line, *, is_ready: bool) -> None:
        try:
            is_news = is_ready and line.idle.heard()
            line.idle.keep()
        except Exception:  # whatever it is, it is this connection's alone
            self._part(seat, line)
            if time.monotonic() - seat.watched_at > _SETTLED_SECONDS:
                seat.failures = 0
            self._lost(seat)
            return
        if is_news:
            mailbox = seat.found.mailbox
            self._news[mailbox.id] = _News(mailbox.tenant_id)

    def _ring(self, now: float) -> None:
        due = [(mailbox_id, news.tenant_id) for mailbox_id, news in self._news.items() if now >= news.ring_at]
        if not due:
            return
        busy = mail.ring(self._connection.get(), PollMailbox.task_type, due)
        for mailbox_id, _ in due:
            news = self._news[mailbox_id]
            news.rings += 1
            news.ring_at = now + _RING_AGAIN.delay(news.rings)
            if mailbox_id not in busy or news.rings >= _MOST_RINGS:
                del self._news[mailbox_id]

    def _leave(self, mailbox_id: UUID) -> None:
        seat = self._seats.pop(mailbox_id)
        self._news.pop(mailbox_id, None)
        if seat.opening is not None and not seat.opening.cancel():
            seat.opening.add_done_callback(_close_opened)
        if seat.line is not None:
            self._part(seat, seat.line)
            self._tell(seat, "left")

    def _part(self, seat: _Seat, line: _Line) -> None:
        self._selector.unregister(line.idle)
        line.close()
        seat.line = None

    def _lost(self, seat: _Seat) -> None:
        seat.failures += 1
        self._wait(seat, "lost", self._backoff.delay(seat.failures))

    def _wait(self, seat: _Seat, state: str, seconds: float) -> None:
        seat.open_at = time.monotonic() + seconds
        self._tell(seat, state)

    def _tell(self, seat: _Seat, state: str) -> None:
        events.emit(events.MailboxWatch(seat.found.mailbox.id, state, self.watching))


def _close_opened(opening: "Future[_Line]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
