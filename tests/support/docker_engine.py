"""Docker engines for tests: one that answers what it is told, and Debian's in a private place."""

import io
import json
import os
import shutil
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal

import pytest
from docker import APIClient

from tests.support.waiting import eventually

_RECORDED = Path(__file__).with_name("docker")
Answer = tuple[int, bytes] | Literal["hang"]
IMAGE = "greenroom-busybox"


def recorded(name: str) -> Any:
    """Return an answer in the shape that the Engine API documents."""
    return json.loads((_RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def answer(value: Any, status: int = 200) -> Answer:
    """Return a value as an answer."""
    return status, json.dumps(value).encode()


@dataclass
class FakeEngine:
    """What an engine answers, by the last part of a path without its query; all else is not found."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def has_container(self, stats: str = "stats_v2") -> None:
        """Run the recorded container."""
        names = {"version": "version", "inspect": "inspect", "stats": stats, "list": "list"}
        found = {path: answer(recorded(name)) for path, name in names.items()}
        self.answers |= found

    def reply(self, path: str) -> Answer:
        """Return what is answered to a path such as `/v1.51/containers/ID/stats`."""
        parts = path.partition("?")[0].strip("/").split("/")
        kind = {"json": "inspect" if len(parts) == 4 else "list"}.get(parts[-1], parts[-1])
        self.asked.append(kind)
        return self.answers.get(kind, answer({"message": "No such container: x"}, 404))


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    """Serve an engine's answers at a socket for the block."""
    with tempfile.TemporaryDirectory(prefix="gr-engine-") as folder:
        path = Path(folder) / "s"
        engine = FakeEngine(f"unix://{path}")

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = engine.reply(self.path)
                if given == "hang":
                    engine.over.wait()
                    return
                status, body = given
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self) -> str:
                return "engine"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Say nothing: whoever asked hung up, having waited long enough."""

        with Server(str(path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield engine
            finally:
                engine.over.set()
                server.shutdown()
                thread.join()


def require_dockerd() -> str:
    """Return the program's path; skips the test where the machine has none or we are not root, which CI must be."""
    found = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin")
    if found is None or shutil.which("busybox") is None:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("dockerd or busybox is not installed: .ci/system-parts names them")
    if os.geteuid() != 0:
        pytest.skip("the Docker engine runs for root alone")
    return found or ""


@contextmanager
def dockerd(program: str) -> Iterator[str]:
    """Run an engine with data and socket of its own, an image of busybox in it; yields its address."""
    with tempfile.TemporaryDirectory(prefix="gr-dockerd-") as name:
        folder = Path(name)
        url = f"unix://{folder}/s"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_command(program, folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(lambda: (folder / "s").exists() or process.poll() is not None, 30)
            assert process.poll() is None, (folder / "log").read_text()
            client = APIClient(url, version="auto")
            client.import_image_from_data(_busybox(), repository=IMAGE)
            client.close()
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _command(program: str, folder: Path) -> list[str]:
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    where = [f"--{option}={folder / part}" for option, part in places.items()]
    quiet = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--oom-score-adjust=0")
    return [program, *where, f"--host=unix://{folder}/s", *quiet]


def _busybox() -> bytes:
    """Return a file system that has busybox alone."""
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as archive:
        archive.add(shutil.which("busybox") or "", "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
    return image.getvalue()
