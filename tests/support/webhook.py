"""A real HTTP server on the loopback that takes, refuses, redirects, hangs or drips, as a test wants."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What was posted, and how the next post is answered: `mode` is a status, "hang" or "drip"."""

    mode: int | str = 204
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def json(self) -> list[dict[str, Any]]:
        """Return what was posted."""
        return [json.loads(body) for body in self.bodies]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: socketserver.BaseServer

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        receiver = self.server.receiver
        receiver.paths.append(self.path)
        receiver.headers.append(self.headers)
        receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        match receiver.mode:
            case "hang":
                receiver.released.wait(30)
            case "drip":
                self._drip(receiver)
            case status:
                self.send_response(int(status))
                self.send_header("Location", f"{receiver.url}elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _drip(self, receiver: Receiver) -> None:
        for byte in b"HTTP/1.1 204 No Content\r\nX-Long: " + b"x" * 1000:
            if receiver.released.wait(0.05):
                return
            self.wfile.write(bytes([byte]))


@contextmanager
def webhook_server() -> Iterator[Receiver]:
    """Serve for the block; `url` is the receiver's address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = receiver = Receiver(url=f"http://127.0.0.1:{server.server_port}/hook/")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            server.shutdown()
            thread.join()
