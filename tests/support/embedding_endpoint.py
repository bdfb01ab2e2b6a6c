"""An embeddings endpoint on the loopback that speaks OpenAI's protocol, and answers as a test wants."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from core.groups import EndpointSettings

DIMENSIONS = 8
Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def vector_of(text: str) -> list[float]:
    """Return a vector that follows from its text."""
    return [byte + 1.0 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]


def success(texts: list[str], **changed: Any) -> Answer:
    """Answer with the vectors of texts, in the wrong order: the index says which is whose."""
    data = [{"object": "embedding", "index": n, "embedding": vector_of(text)} for n, text in enumerate(texts)]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = {"object": "list", "model": "remote", "data": data[::-1], "usage": usage} | changed
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def failure(status: int, message: str = "no", **headers: str) -> Answer:
    """Answer as OpenAI does where it refuses."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    return status, {"Content-Type": "application/json"} | named, body


@dataclass
class Endpoint:
    """What was asked, and how the next request is answered; None closes the connection without a word."""

    url: str = ""
    answer: Callable[[list[str]], Answer | None] = success
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def settings(self, **changed: Any) -> EndpointSettings:
        """Return the settings of a client of it."""
        known = {
            "url": self.url,
            "api_key": "a-secret-key",
            "model": "remote",
            "dimensions": DIMENSIONS,
            "seconds": 2.0,
        }
        return EndpointSettings.model_validate(known | changed)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        endpoint: Endpoint = self.server.endpoint  # type: ignore[attr-defined]  # set below
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint.asked.append(request | {"path": self.path})
        endpoint.keys.append(self.headers["Authorization"])
        answer = endpoint.answer(request["input"])
        if answer is None:
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def embedding_endpoint() -> Iterator[Endpoint]:
    """Run the endpoint for the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.endpoint = endpoint  # type: ignore[attr-defined]  # read above
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
