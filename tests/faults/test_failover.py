"""A real fail-over: the primary crashes, its synchronous standby is promoted, and the same address leads there."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import Fleet, fleet
from tests.faults.standby import Standby
from tests.support.database import migrate_template
from tests.support.waiting import eventually, pass_time


@pytest.fixture
def primary_home() -> Iterator[Path]:
    """The home of a primary of the test's own."""
    home = Path(tempfile.mkdtemp(prefix="gr-primary-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
def mortal(primary_home: Path) -> Iterator[Fleet]:
    """A fleet over a primary that will not come back while it works."""
    with EmbeddedServer(primary_home) as primary, fleet(primary, primary_home, migrate_template(primary)) as made:
        yield made
        # Nobody follows it any more: with the setting it would wait for a standby for ever.
        made.rig.stop_server()
        (primary_home / "postgres" / "data" / "postgresql.auto.conf").write_text("")


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_standby_takes_over_and_nothing_is_lost(mortal: Fleet, primary_home: Path) -> None:
    draw, rig = random.Random(1), mortal.rig
    with Standby(rig.server, primary_home) as standby:
        mortal.feed(200, 10, draw)
        mortal.await_work()
        # For a while the address leads to the standby before it is promoted: reads work, writes are refused.
        mortal.postgres.target = standby.socket
        rig.stop_server(at_once=True)
        rig.database.server = standby
        with (
            psycopg.connect(rig.database.owner_url) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("DELETE FROM queue.processes")
        pass_time(3.0)
        standby.promote()
        mortal.feed(50, 0, draw)
        eventually(lambda: rig.tend() and rig.live() == 0, 90)
        assert violations(rig.database) == []
        rig.database.server = rig.server
        for member in rig.members:
            member.end()
