"""One installation in each set-up: a database, a Redis, and the real commands `relay` and `worker`."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.setup import create_folder, prepare
from core.settings import load_settings
from db.embedded import EmbeddedServer
from tests.acceptance.pgbouncer import pgbouncer, require_pgbouncer, through
from tests.support.command import Greenroom, Inline, Running
from tests.support.database import Database, cloned
from tests.support.waiting import eventually

_TASK_MODULE = "tests.support.tasks"
_EFFECTS = "CREATE TABLE public.effects (n integer, note text)"
_GRANT = "GRANT SELECT, INSERT ON public.effects TO greenroom_worker, greenroom_system"


@dataclass(frozen=True)
class Installation:
    """What runs: `greenroom` is the operator's command, `producer_url` where a product writes its tasks."""

    setup: str
    database: Database
    greenroom: Inline
    producer_url: str
    relay: Running
    worker: Running


@pytest.fixture(scope="module", params=["direct", "pooled", "deaf"])
def installation(
    request: pytest.FixtureRequest,
    server_without_fsync: EmbeddedServer,
    template_database: str,
    redis_of_session: str,
) -> Iterator[Installation]:
    """Greenroom as it is deployed: the roles apart, each by its own login."""
    setup: str = request.param
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="gr-acceptance-"))
        stack.callback(shutil.rmtree, home)
        database = stack.enter_context(cloned(server_without_fsync, template_database))
        _prepare(database, home)
        port = None if setup == "direct" else stack.enter_context(pgbouncer(require_pgbouncer(), database.owner_url))

        def url(kind: str) -> str:
            return database.url(kind) if port is None else through(port, database.url(kind))

        def command(kind: str) -> dict[str, str]:
            settings = {
                "GREENROOM_DATABASE_URL": url(kind),
                "GREENROOM_BROKER_URL": redis_of_session,
                "GREENROOM_BROKER_NAMESPACE": database.name,
                "GREENROOM_TASK_MODULES": _TASK_MODULE,
            }
            if port is not None:
                settings["GREENROOM_DATABASE_IS_POOLED"] = "true"
            if setup == "pooled":
                settings["GREENROOM_DATABASE_DIRECT_URL"] = database.url(kind)
            return settings

        running = [stack.enter_context(Greenroom(home, command(kind)).running(kind)) for kind in ("relay", "worker")]
        for process in running:
            eventually(lambda process=process: "process.started" in process.said(), 60)  # type: ignore[misc]  # bound now
        yield Installation(setup, database, Inline(home, command("operator")), url("producer"), *running)
        for process in running:
            assert process.stop() == 0, process.said()
            assert "Traceback" not in process.said()


def _prepare(database: Database, home: Path) -> None:
    settings = load_settings(_env_file=None, home=home, task_modules=(_TASK_MODULE,))
    prepare(database.owner_url, settings)
    create_folder(database.owner_url, settings)
    database.rows(_EFFECTS)
    database.rows(_GRANT)
