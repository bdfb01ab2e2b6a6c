"""Schedules from end to end: `db migrate` installs what the code declares, `up` and `scheduler` fire, workers run."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console.setup import install_schedules
from core.errors import RegistrationError, ScheduleError
from core.settings import Settings
from db import fires, schedules
from db.connection import connect
from db.embedded import running_url
from db.roles import role_url
from db.schedules import ScheduleSpec
from pipelines import registry as registered
from pipelines.payload import Payload
from pipelines.registry import load_registry, load_schedules
from pipelines.retention.partitions import MaintainPartitions
from pipelines.schedule import Schedule
from tests.support.command import Inline, Running
from tests.support.database import Database
from tests.support.waiting import eventually

EACH_SECOND = ScheduleSpec(
    name="each second", task_type="counters.reconcile", payload={"counters": ["people.mapper_configs.usage_count"]},
    every=timedelta(seconds=1), overlap="wait",
)  # fmt: skip
NIGHTLY: dict[str, Any] = {"name": "nightly", "payload": MaintainPartitions(), "design": "shop", "description": "x"}


class Sealed(Payload):
    """Has a field that stands encrypted."""

    task_type = "test.sealed"
    encrypted_fields = ("key",)

    key: str = "k"


def test_up_fires_and_runs_what_is_due(up: Running, home: Path) -> None:
    with connect(role_url(running_url(home) or "", "operator"), name="test") as operator:
        row = schedules.add(operator, EACH_SECOND)
        eventually(lambda: [f for f in fires.history(operator, row.id, limit=9) if f.status == "done"] != [], 30)
        schedules.remove(operator, row.name)
        assert {each.name for each in schedules.list_schedules(operator, limit=100)} >= {"counters", "partitions"}


def test_a_scheduler_apart_fires_until_it_is_stopped(tmp_path: Path, database: Database) -> None:
    owner = Inline(tmp_path / "home", {"GREENROOM_DATABASE_URL": database.owner_url})
    owner.ok("db", "migrate")
    operator = database.connect("operator")
    assert {each.name: each.source for each in schedules.list_schedules(operator, limit=100)} == {
        name: "code" for found in load_schedules().values() for name in (each.name for each in found)
    }
    row = schedules.add(operator, EACH_SECOND)
    url = {"GREENROOM_DATABASE_URL": role_url(database.owner_url, "scheduler")}
    with Inline(owner.home, url).running("scheduler") as running:
        eventually(lambda: len(fires.history(operator, row.id, limit=9)) >= 2, 30)
        assert running.stop() == 0, running.said()
        assert "Traceback" not in running.said()
        assert "process.started" in running.said()
    assert database.rows("SELECT 1 FROM queue.processes") == []


@pytest.mark.parametrize(
    ("declared", "error", "told"),
    [
        ([Schedule(**NIGHTLY, cron="* * *")], ScheduleError, "schedule 'nightly' of pipelines.vault.rotation: .*five"),
        ([Schedule(**NIGHTLY, cron="0 4 * * *", zone="Mars/Olympus")], ScheduleError, "Mars/Olympus"),
        ([Schedule(**NIGHTLY)], ScheduleError, "exactly one of"),
        ([Schedule(**NIGHTLY, cron="0 4 * * *")] * 2, RegistrationError, "declared twice"),
        ([Schedule(**NIGHTLY | {"payload": Sealed()}, cron="0 4 * * *")], RegistrationError, "no module registers"),
    ],
)
def test_a_declaration_that_cannot_be_stops_the_migration(
    database: Database, monkeypatch: pytest.MonkeyPatch, declared: list[Schedule], error: type[Exception], told: str
) -> None:
    import pipelines.vault.rotation as module

    monkeypatch.setattr(module, "SCHEDULES", declared, raising=False)
    with pytest.raises(error, match=told):
        install_schedules(database.connect(), Settings(_env_file=None))
    assert database.rows("SELECT 1 FROM queue.schedules") == []


def test_a_payload_with_encrypted_fields_cannot_stand_in_code() -> None:
    sealed: Any = NIGHTLY | {"payload": Sealed()}
    with pytest.raises(RegistrationError, match="encrypted fields"):
        Schedule(**sealed, cron="0 4 * * *").spec()


def test_each_schedule_names_its_design_and_says_what_it_does() -> None:
    known = load_registry().names()
    for each in (each for found in load_schedules().values() for each in found):
        assert each.task_type in known
        assert each.design in {"000", "001", "002", "003", "004"}
        assert each.description.endswith(".")
    assert tuple(load_schedules()) == registered.OUR_MODULES
