"""The clock of the database's machine is stepped, back and forth, while work is under way."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer, cluster
from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.rig import Rig, rig
from tests.faults.tasks import Effect, Slow
from tests.support.database import migrate_template
from tests.support.waiting import eventually

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
_HOUR = 3600


class SteppedClock:
    """What the server takes for the time: ours, and so many seconds."""

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


@pytest.fixture
def clock() -> Iterator[SteppedClock]:
    """A clock whose file every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="gr-clock-"))
    folder.chmod(0o755)
    yield SteppedClock(folder / "offset")
    shutil.rmtree(folder)


@pytest.fixture
def stepped_rig(clock: SteppedClock, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig over a server that lives by the stepped clock."""
    environment = clock.environment(require_faketime())
    home = Path(tempfile.mkdtemp(prefix="gr-stepped-"))
    with EmbeddedServer(home) as server:  # the cluster is made by the true clock
        template = migrate_template(server)
        server.stop()
        monkeypatch.setattr(cluster, "ENVIRONMENT", cluster.ENVIRONMENT | environment)
        server.start()
        with rig(server, home, template, redis_url) as running:
            yield running
    shutil.rmtree(home)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_clock_that_is_stepped_loses_nothing_and_repeats_no_effect(stepped_rig: Rig, clock: SteppedClock) -> None:
    rig, draw = stepped_rig, random.Random(1)
    rig.add("relay", **TIMES)
    for _ in range(2):
        rig.add("worker", **TIMES)
    rig.await_workers()
    for hours in (-1, 0, 1, 2, 1, 24, 0):
        before = rig.database.value("SELECT now()")
        rig.enqueue([Slow(seconds=draw.uniform(0.5, 1.5)) for _ in range(8)])
        rig.enqueue([Effect(seconds=draw.uniform(0, 0.05)) for _ in range(40)])
        eventually(rig.in_progress, 20)
        clock.step(hours * _HOUR)
        assert abs((rig.database.value("SELECT now()") - before).total_seconds()) > _HOUR / 2, "the clock stands"
        rig.enqueue([Effect() for _ in range(20)])
        rig.await_end()
        assert violations(rig.database) == []
