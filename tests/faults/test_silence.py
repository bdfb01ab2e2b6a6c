"""A line that falls silent in the middle of a statement: whoever waits there gives it up and dials anew (I10)."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import Fleet, fleet

_LAUNCHER = ("tests.faults.impatient", "2")


@pytest.fixture
def impatient(durable_server: EmbeddedServer, durable_home: Path, durable_template: str) -> Iterator[Fleet]:
    """A relay and a worker that wait two seconds for an answer of Postgres; of Redis as long as they are shipped to."""
    with fleet(durable_server, durable_home, durable_template, relays=0, workers=0) as made:
        for kind in ("relay", "worker"):
            made.rig.add(kind, launcher=_LAUNCHER, **made.settings(kind))
        made.rig.await_workers()
        yield made


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize("line", ["postgres", "redis"])
def test_a_line_that_falls_silent_is_given_up(impatient: Fleet, line: str) -> None:
    rig = impatient.rig
    impatient.feed(200, 8, random.Random(1))
    impatient.await_work()
    # New connections work, and nobody ends the old ones: who waits for them to speak again waits for ever.
    assert (impatient.postgres if line == "postgres" else impatient.redis).hold() > 1
    impatient.feed(40, 0, random.Random(2))
    rig.await_end(60)
    assert violations(rig.database) == []
    assert not rig.exits, "a process fell over"
    assert all(member.terminate() == 0 for member in rig.members)
