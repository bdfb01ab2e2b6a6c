"""One database for each module's tests, with the task types of the tests published."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from db import schedules
from db.connection import Connection
from db.embedded import EmbeddedServer
from db.schedules import Declaration, ScheduleRow, ScheduleSpec
from pipelines.publish import publish_types
from pipelines.registry import Registry
from tests.support import tasks
from tests.support.command import Inline
from tests.support.database import Database, cloned
from tests.support.factory import Factory
from tests.support.tenants import new_tenant


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database in which each test has schedules of its own."""
    with cloned(server_without_fsync, template_database) as database:
        publish_types(database.connect(), Registry(tasks.TASKS))
        yield database


@pytest.fixture(scope="module")
def operator(shared: Database) -> Connection:
    """The operator's connection, which adds and steers schedules."""
    return shared.connect("operator")


@pytest.fixture(scope="module")
def scheduler(shared: Database) -> Connection:
    """The connection of a scheduler, which fires them."""
    return shared.connect("scheduler")


@pytest.fixture
def theirs(shared: Database) -> Iterator[Factory]:
    """The maker of another tenant's rows."""
    with new_tenant(shared) as factory:
        yield factory


@pytest.fixture(scope="module")
def cli(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Inline:
    """The command as an operator, with no scheduler beside it."""
    return Inline(tmp_path_factory.mktemp("home"), {"GREENROOM_DATABASE_URL": shared.url("operator")})


@pytest.fixture
def name() -> str:
    return f"s-{uuid4()}"


@pytest.fixture
def nightly(cli: Inline, name: str) -> str:
    """The name of a schedule that fires at four."""
    cli.ok("schedules", "add", name, "test.noop", "--cron", "0 4 * * *", "--payload", '{"n": 1}')
    return name


@pytest.fixture
def declared(shared: Database, name: str) -> str:
    """The name of a schedule that the code declares."""
    spec = ScheduleSpec(
        name=name, task_type="test.noop", payload={"n": 1}, cron="0 4 * * *", jitter=timedelta(minutes=5)
    )
    schedules.install(shared.connect(), [Declaration(spec=spec, module="shop.tasks", design="004")], [])
    return name


@pytest.fixture
def add(operator: Connection) -> Callable[..., ScheduleRow]:
    """Adds a schedule, each half hour unless it is told when."""

    def adding(**given: Any) -> ScheduleRow:
        when: dict[str, Any] = {} if {"cron", "every", "at"} & set(given) else {"cron": "*/30 * * * *"}
        if "every" in given:  # from before any test
            when["starts_at"] = datetime(2026, 1, 1, tzinfo=UTC)
        named = {"name": f"s-{uuid4()}", "task_type": "test.noop", "payload": {"n": 1}}
        return schedules.add(operator, ScheduleSpec(**(named | when | given)))

    return adding
