"""A chat endpoint on the loopback that speaks OpenAI's protocol, and answers as a test wants."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from core.memory_group import MemorySettings
from tests.support.embedding_endpoint import Answer, failure

__all__ = ["ChatEndpoint", "chat_endpoint", "completion", "failure", "says"]
USAGE = {"prompt_tokens": 200, "completion_tokens": 40, "total_tokens": 240}


def completion(content: str | None, *, finish: str = "stop", **message: Any) -> Answer:
    """Answer with a message."""
    said = {"role": "assistant", "content": content} | message
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": said, "finish_reason": finish}]}
    return 200, {"Content-Type": "application/json"}, json.dumps(body | {"usage": USAGE}).encode()


def says(summary: str) -> Answer:
    """Answer with a summary, as it is asked for."""
    return completion(json.dumps({"summary": summary}))


@dataclass
class ChatEndpoint:
    """What was asked, and how the next request is answered; None closes the connection without a word.

    `hangs` keeps an answer back until the server is stopped.
    """

    url: str = ""
    answer: Callable[[dict[str, Any]], Answer | None] = lambda asked: says("")
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    hangs: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def settings(self, **changed: Any) -> MemorySettings:
        """Return the settings of a client of it."""
        known = {
            "summariser": "chat",
            "url": self.url,
            "api_key": "a-secret-key",
            "model": "small",
            "seconds": 2.0,
            "prompt_price": 1.0,
            "completion_price": 10.0,
        }
        return MemorySettings.model_validate(known | changed)


@contextmanager
def chat_endpoint() -> Iterator[ChatEndpoint]:
    """Run the endpoint for the block."""
    endpoint = ChatEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.asked.append(asked | {"path": self.path})
            endpoint.keys.append(self.headers["Authorization"])
            if endpoint.hangs:
                endpoint.stopped.wait(30)
                return
            if (answer := endpoint.answer(asked)) is None:
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            # whoever asks may hang up at so much of it
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
