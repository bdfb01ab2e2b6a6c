"""Clocks that are stepped while processes live by them: the database machine's, and any other process's own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer, cluster
from tests.faults.rig import Rig, rig
from tests.support.database import migrate_template

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


class SteppedClock:
    """What a process takes for the time: ours, and so many seconds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set how far it is from ours."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)
        new.replace(self.file)

    def environment(self, library: Path) -> dict[str, str]:
        """What a process is started with, to live by this clock. Time that passes is not touched."""
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def require_faketime() -> Path:
    """Return the library's path; skips the test where the machine has none, which CI must have."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])]
    if not found:
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("libfaketime is not installed: .ci/system-parts names it")
    return found[0]


@contextmanager
def stepped_clock() -> Iterator[SteppedClock]:
    """A clock whose file every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="gr-clock-"))
    folder.chmod(0o755)
    try:
        yield SteppedClock(folder / "offset")
    finally:
        shutil.rmtree(folder)


@contextmanager
def stepped_server(clock: SteppedClock) -> Iterator[tuple[EmbeddedServer, Path, str]]:
    """A server of the block's own that lives by the stepped clock, its home, and the template of its databases."""
    environment = clock.environment(require_faketime())
    home = Path(tempfile.mkdtemp(prefix="gr-stepped-"))
    with EmbeddedServer(home) as server, pytest.MonkeyPatch.context() as patch:  # the cluster is made by the true clock
        template = migrate_template(server)
        server.stop()
        patch.setattr(cluster, "ENVIRONMENT", cluster.ENVIRONMENT | environment)
        server.start()
        yield server, home, template
    shutil.rmtree(home)


@contextmanager
def stepped_rig(clock: SteppedClock, redis_url: str) -> Iterator[Rig]:
    """A rig over a server that lives by the stepped clock."""
    with stepped_server(clock) as (server, home, template), rig(server, home, template, redis_url) as running:
        yield running
