"""A real web server on the loopback that has the pages that a test gives it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """A web server of the test's own: `pages` are (status, headers, body) by path, `asked` paths and hosts."""

    port: int = 0
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return the address of a page."""
        return f"http://{host}:{self.port}{path}"


@contextmanager
def web_site() -> Iterator[Site]:
    """Serve a site on the loopback."""
    own = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own.asked.append((self.path, self.headers["Host"]))
            status, headers, body = own.pages.get(self.path, (404, {}, b"none"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for start in range(0, len(body), 1000) if "X-Slow" in headers else ():
                    self.wfile.write(body[start : start + 1000])
                    time.sleep(0.05)
                if "X-Slow" not in headers:
                    self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client has heard enough

        def log_message(self, *args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        own.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield own
        server.shutdown()
        thread.join()
