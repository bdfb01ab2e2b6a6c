"""One database for each module's tests, a tenant of a test's own in it, and what its handlers need."""

from collections.abc import Iterator

import pytest

from core.groups import HealthSettings
from db.embedded import EmbeddedServer
from pipelines.health import measure, rollup
from pipelines.registry import Registry
from tests.integration.health.measuring import Measuring
from tests.support.database import Database, cloned
from tests.support.docker_engine import FakeEngine, fake_engine
from tests.support.engine import publish
from tests.support.tenants import new_tenant

# Tests write measures of hours that may be last month's.
MONTHS = "SELECT ops.create_months_of('ops.persona_health_metrics', now() - interval '5 days', now())"


@pytest.fixture(scope="module")
def shared(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database in which each test has a tenant of its own."""
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry([*measure.TASKS, *rollup.TASKS]))
        database.connect("system").execute(MONTHS)
        yield database


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """An engine that answers what it is told."""
    with fake_engine() as engine:
        yield engine


@pytest.fixture
def measuring(shared: Database, engine: FakeEngine) -> Iterator[Measuring]:
    """Measures personas of a tenant of its own by that engine."""
    settings = HealthSettings(docker_url=engine.url, docker_seconds=10, cpu_percent=0, memory_percent=0)
    with new_tenant(shared) as factory:
        own = Database(shared.server, shared.name)  # closes what it has opened at the test's end
        yield Measuring(own, factory, settings)
        own.close()
