"""A database that keeps the line open and never answers: no call waits for ever."""

import socket
import threading
from collections.abc import Iterator

import pytest

from core.errors import UnavailableError
from db import queue
from db.connection import KeptConnection, connect, patient
from tests.support.database import Database


class Silent:
    """Passes bytes between a client and the server, until told to swallow what the server says."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.is_silent = threading.Event()
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                if not (is_answer and self.is_silent.is_set()):
                    target.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.fixture
def silent(database: Database) -> Iterator[Silent]:
    """A line to the test's server that can fall silent."""
    info = database.connect().info
    between = Silent(f"{info.host}/.s.PGSQL.{info.port}")
    yield between
    between.close()


def url_through(silent: Silent, database: Database) -> str:
    return f"postgresql://greenroom_relay@127.0.0.1:{silent.port}/{database.name}"


def test_a_call_that_is_not_answered_breaks_the_connection_and_the_next_gets_a_new_one(
    database: Database, silent: Silent
) -> None:
    kept = KeptConnection(url_through(silent, database), name="relay", answer_seconds=0.5)
    first = kept.get()
    assert queue.promote(first, 1) == 0
    silent.is_silent.set()
    with pytest.raises(UnavailableError):
        queue.promote(first, 1)
    silent.is_silent.clear()
    assert kept.get() is not first
    assert queue.promote(kept.get(), 1) == 0
    kept.close()


def test_a_patient_block_waits_for_a_handlers_statement(database: Database) -> None:
    with connect(database.url("worker"), name="test", answer_seconds=0.3) as connection:
        with patient(connection):
            assert connection.execute("SELECT pg_sleep(0.6)").rowcount == 1
        assert connection.answer_seconds == 0.3  # type: ignore[attr-defined]  # the type is the driver's
