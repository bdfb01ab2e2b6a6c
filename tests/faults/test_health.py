"""A service that does no work says so (I10): a loop that hangs is seen in the row of its process."""

from pathlib import Path

import pytest

from db.embedded import EmbeddedServer
from tests.faults.checks import violations
from tests.faults.fleet import fleet
from tests.support.waiting import eventually

_LATE = "SELECT (loops_late ->> %s)::float8 FROM queue.processes WHERE kind = 'relay'"
_TOO_LATE_SECONDS = 3.0


@pytest.mark.faults
@pytest.mark.timeout(180)
@pytest.mark.parametrize("loop", ["relay", "rescuer"])
def test_a_loop_that_hangs_is_late(
    durable_server: EmbeddedServer, durable_home: Path, durable_template: str, loop: str
) -> None:
    with fleet(durable_server, durable_home, durable_template, workers=1) as made:
        database = made.rig.database
        eventually(lambda: database.rows(_LATE, (loop,)) not in ([], [(None,)]), 30)
        # Its connection alone is silent, the others of the process work: nothing but its tick can tell.
        assert made.postgres.hold(f"greenroom {loop}\0".encode()) == 1
        eventually(lambda: database.value(_LATE, (loop,)) > _TOO_LATE_SECONDS, 30)
        made.heal()
        eventually(lambda: database.value(_LATE, (loop,)) < _TOO_LATE_SECONDS, 30)
        assert violations(database) == []
