"""A line to an IMAP server that breaks, hangs or lies, as a test wants: what the server says is altered on the way."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Alter = Callable[[bytes], bytes | None]
"""What is sent in place of what the server said; None ends the connection."""


def as_it_is(said: bytes) -> bytes:
    """Send what the server said."""
    return said


def cut_at(marker: bytes) -> Alter:
    """End the connection where the server says something, in the middle of it."""

    def alter(said: bytes) -> bytes | None:
        return None if marker in said else said

    return alter


def instead(answer: bytes, *, behind: bytes) -> Alter:
    """Send something else in place of what holds `behind`, and nothing from there on."""

    def alter(said: bytes) -> bytes:
        return answer if behind in said else said

    return alter


@dataclass
class ImapLine:
    """The line: where it begins, and what becomes of what the server says."""

    port: int = 0
    alter: Alter = as_it_is
    connections: list[socket.socket] = field(default_factory=list)

    def carry(self, client: socket.socket, server_port: int) -> None:
        """Carry a connection in threads of its own."""
        server = socket.create_connection(("127.0.0.1", server_port))
        self.connections += [client, server]
        for pump in ((client, server, as_it_is), (server, client, lambda said: self.alter(said))):
            threading.Thread(target=_pump, args=pump, daemon=True).start()


@contextmanager
def imap_line(server_port: int, host: str = "127.0.0.1") -> Iterator[ImapLine]:
    """Carry what comes in to a server for the block."""
    line = ImapLine()
    with socket.create_server((host, 0)) as listening:
        line.port = listening.getsockname()[1]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    line.carry(listening.accept()[0], server_port)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield line
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for each in line.connections:
                each.close()


def _pump(reading: socket.socket, writing: socket.socket, alter: Alter) -> None:
    with suppress(OSError):
        while (said := reading.recv(1 << 16)) and (sent := alter(said)) is not None:
            writing.sendall(sent)
    for each in (reading, writing):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
