"""A TCP proxy of the suite: what it carries it can hold back, slow down, cut after so many bytes, or cut at a COMMIT.

Listens on the loopback and leads to a Unix socket, of Postgres or Redis. Runs in a thread of its own; whoever holds it
gives orders from any other.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

T = TypeVar("T")
When = Literal["before", "after"]
_PIECE = 65536
# Sent as a query, and answered as the tag of the command that was completed: both end with a NUL.
_COMMIT = re.compile(rb"COMMIT\0", re.I)
# With this, closing a socket is a reset and no orderly end.
_NO_LINGER = struct.pack("ii", 1, 0)


# Else a client asks for TLS first, and says who it is later.
_PLAIN = "sslmode=disable&gssencmode=disable"


class _CutError(Exception):
    """This connection ends here."""


class _Link:
    """One connection that is carried; `hello` is what the client said first, which tells its role and its name."""

    def __init__(self, client: asyncio.StreamWriter, *, budget: int | None) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.hello = b""
        self.budget = budget
        self.is_held = False
        self.ends_with_answer = False

    def close(self) -> None:
        """End both sides in order."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """End both sides at once."""
        for writer in (self.client, self.server):
            if writer is not None:
                plug: socket.socket | None = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    if plug is not None and plug.family != socket.AF_UNIX:
                        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()


@dataclass
class _Orders:
    """What is to be done to the connections; by default no harm."""

    delay: float = 0.0
    refuses: bool = False
    swallows: bool = False
    budget: Callable[[], int] | None = None
    commits: int = 0
    when: When = "before"
    only: bytes = b""


class Proxy:
    """Carries connections to `target` (a Unix socket's path) and does them harm when told to.

    `hits` counts what was done: resets, cuts and commits, held connections.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.hits: Counter[str] = Counter()
        self.port = 0
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._orders = _Orders()

    # ------------------------------------------------------------------------------------------- addresses

    def address(self, url: str) -> str:
        """Return where a Postgres address leads through the proxy."""
        parts = urlsplit(url)
        user, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}", query=_PLAIN))

    @property
    def redis_url(self) -> str:
        """Where a Redis behind the proxy is."""
        return f"redis://127.0.0.1:{self.port}/0"

    # ------------------------------------------------------------------------------------------- orders

    def heal(self) -> None:
        """Do no more harm; connections that were held back are ended, as a line that comes back ends them."""
        self._call(self._heal)

    def reset(self, only: bytes = b"") -> int:
        """Reset the connections whose first words hold `only`; return how many."""
        return self._call(lambda: self._end(link for link in list(self._links) if only in link.hello))

    def hold(self, only: bytes = b"") -> int:
        """Let nothing pass any more on the connections there are, and keep them open; return how many."""
        return self._call(lambda: self._hold(only))

    def black_hole(self) -> int:
        """Let nothing pass on any connection, new ones included: they are accepted, and that is all."""

        def swallow() -> int:
            self._orders.swallows = True
            return self._hold(b"")

        return self._call(swallow)

    def refuse(self) -> int:
        """Reset every connection, new ones too."""

        def refuse() -> int:
            self._orders.refuses = True
            return self._end(list(self._links))

        return self._call(refuse)

    def slow(self, seconds: float) -> None:
        """Pass each piece on only after so long."""

        def slow() -> None:
            self._orders.delay = seconds

        self._call(slow)

    def cut_after(self, least: int, most: int, draw: random.Random) -> None:
        """Reset each connection that is opened from now on once it has carried a random number of bytes."""

        def cut() -> None:
            self._orders.budget = lambda: draw.randint(least, most)

        self._call(cut)

    def cut_commits(self, count: int, when: When, only: bytes = b"") -> None:
        """Reset the next `count` connections that commit: before the server has heard it, or before it is answered."""

        def cut() -> None:
            self._orders.commits, self._orders.when, self._orders.only = count, when, only

        self._call(cut)

    # ------------------------------------------------------------------------------------------- the thread

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._carry, "127.0.0.1", 0)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._end(list(self._links))
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _call(self, order: Callable[[], T]) -> T:
        async def obey() -> T:
            return order()

        return asyncio.run_coroutine_threadsafe(obey(), self._loop).result(10)

    def _heal(self) -> None:
        self._orders = _Orders()
        self._end(link for link in list(self._links) if link.is_held or link.budget is not None)

    def _hold(self, only: bytes) -> int:
        found = [link for link in self._links if only in link.hello and not link.is_held]
        for link in found:
            link.is_held = True
        self.hits["held"] += len(found)
        return len(found)

    def _end(self, links: Iterator[_Link] | list[_Link]) -> int:
        ended = list(links)
        for link in ended:
            link.reset()
        self.hits["reset"] += len(ended)
        return len(ended)

    # ------------------------------------------------------------------------------------------- one connection

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer, budget=self._orders.budget() if self._orders.budget else None)
        link.is_held = self._orders.swallows
        self._links.add(link)
        try:
            if not self._orders.refuses and await self._carry_both(link, reader):
                link.close()
                return
        except (OSError, _CutError, asyncio.CancelledError):
            pass  # the server is away, the connection was to end, or the proxy ends
        finally:
            self._links.discard(link)
        link.reset()

    async def _carry_both(self, link: _Link, reader: asyncio.StreamReader) -> bool:
        """Carry until one side ends; return whether it ended by itself, and in order."""
        link.hello = await reader.read(_PIECE)
        answers, link.server = await asyncio.open_unix_connection(str(self.target))
        await self._pass(link, link.hello, link.server)
        pumps: list[asyncio.Task[None]] = [
            asyncio.ensure_future(self._pump(link, reader, link.server, is_answer=False)),
            asyncio.ensure_future(self._pump(link, answers, link.client, is_answer=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        return not any(isinstance(end, OSError | _CutError) for end in ends)

    async def _pump(
        self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while piece := await source.read(_PIECE):
            self._look(link, piece, is_answer=is_answer)
            await self._pass(link, piece, sink)

    async def _pass(self, link: _Link, piece: bytes, sink: asyncio.StreamWriter) -> None:
        while link.is_held:
            await asyncio.sleep(3600)  # until it is reset
        if self._orders.delay:
            await asyncio.sleep(self._orders.delay)
        if link.budget is not None:
            sink.write(piece[: max(link.budget, 0)])
            link.budget -= len(piece)
            if link.budget < 0:
                self.hits["cut"] += 1
                raise _CutError
        else:
            sink.write(piece)
        await sink.drain()

    def _look(self, link: _Link, piece: bytes, *, is_answer: bool) -> None:
        """Cut at a COMMIT where that was ordered."""
        if not _COMMIT.search(piece):
            return
        if is_answer and link.ends_with_answer:
            self.hits["commit"] += 1
            raise _CutError
        if not is_answer and self._orders.commits > 0 and self._orders.only in link.hello:
            self._orders.commits -= 1
            if self._orders.when == "before":
                self.hits["commit"] += 1
                raise _CutError
            link.ends_with_answer = True


def postgres_proxy(url: str) -> Proxy:
    """Return a proxy that leads to the embedded server of an address."""
    given = conninfo_to_dict(url)
    return Proxy(Path(str(given["host"])) / f".s.PGSQL.{given['port']}")


def redis_proxy(url: str) -> Proxy:
    """Return a proxy that leads to the Redis of a `unix://` address."""
    return Proxy(Path(urlsplit(url).path))
