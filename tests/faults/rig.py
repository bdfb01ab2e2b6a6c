"""The rig: a durable server that tests may stop, a database of the test's own, and the processes that serve it."""

import contextlib
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg

from console.setup import create_folder, prepare
from core.settings import load_settings
from db.embedded import EmbeddedServer
from pipelines.enqueue import enqueue_many
from pipelines.payload import Payload
from tests.faults.processes import Member, Role, of_sessions
from tests.faults.tasks import EFFECTS, GRANT
from tests.faults.witness import WITNESS
from tests.support.database import Database, cloned
from tests.support.waiting import eventually

TASK_MODULE = "tests.faults.tasks"
START_SECONDS = 60.0
# Short, yet longer than a busy machine of two cores keeps a heartbeat waiting.
_TIMES = {
    "RELAY_CLAIM_SECONDS": "4",
    "RELAY_RESCUE_SECONDS": "0.3",
    "RELAY_PROCESS_TIMEOUT": "4",
    "RELAY_POLL_SECONDS": "1",
    "WORKER_LEASE_SECONDS": "6",
    "WORKER_GRACE_SECONDS": "5",
}
_QUIET = {"OBSERVE_LOG_FORMAT": "json", "OBSERVE_LOG_LEVEL": "warning"}
_WORKERS_TASKS = (
    "SELECT t.id, t.task_type, t.attempts FROM queue.processes p JOIN queue.tasks_live t ON t.worker_id = p.id"
    " WHERE p.pid = %s AND t.status = 'in_progress'"
)


class Rig:
    """Processes over one database. `broker_url` None is in process: relay and worker run together, as `up` has them.

    `embeds` says that their tasks embed.
    """

    embeds = False

    def __init__(self, server: EmbeddedServer, home: Path, database: Database, broker_url: str | None) -> None:
        self.server = server
        self.database = database
        self.broker_url = broker_url
        self.home = home
        self.folder = Path(tempfile.mkdtemp(prefix="rig-", dir=home))
        self.members: list[Member] = []
        self.exits: Counter[tuple[str, int]] = Counter()
        self._sessions: set[int] = set()
        self._urls = {kind: database.url(kind) for kind in ("owner", "relay", "worker", "scheduler")}
        settings = load_settings(_env_file=None, home=self.folder, task_modules=(TASK_MODULE,))
        prepare(database.owner_url, settings)
        create_folder(database.owner_url, settings)
        for statement in (EFFECTS, GRANT, *WITNESS):
            database.rows(statement)

    # -------------------------------------------------------------------------------------------- processes

    def add(self, kind: str, *, launcher: Sequence[str] = ("console.child",), **settings: str) -> Member:
        """Start a process of a kind (`up` too); `settings` go over the rig's, in the names of the environment."""
        url = self._urls["owner" if kind == "up" else kind]
        values = _TIMES | _QUIET | {"DATABASE_URL": url, "TASK_MODULES": TASK_MODULE, "HOME": str(self.folder)}
        if self.broker_url is not None:
            values |= {"BROKER_URL": self.broker_url, "BROKER_NAMESPACE": self.database.name}
        named = {f"GREENROOM_{name}": value for name, value in (values | settings).items()}
        role = Role(f"{kind}-{len(self.members)}", (*launcher, kind), named, self.embeds)
        member = Member(role, self.folder, self._sessions)
        member.start()
        self.members.append(member)
        return member

    def add_fleet(self, *, workers: int = 2, **settings: str) -> None:
        """Start what a broker needs: relays and workers apart, or as many of both together."""
        for kind in ("up",) if self.broker_url is None else ("relay", "worker"):
            for _ in range(workers):
                self.add(kind, **settings)

    def named(self, *kinds: str) -> list[Member]:
        """The members of these kinds."""
        return [member for member in self.members if member.role.arguments[-1] in kinds]

    @property
    def workers(self) -> list[Member]:
        """Whoever runs handlers."""
        return self.named("worker", "up")

    @property
    def relays(self) -> list[Member]:
        """Whoever does nothing but relay."""
        return self.named("relay")

    def tend(self) -> bool:
        """Replace whoever has ended by itself, and remember how; True, so that a wait can tend on its way."""
        for member in self.members:
            status = member.status()
            if status is not None:
                self.exits[member.role.name.partition("-")[0], status] += 1
                member.start()
        return True

    def is_serving(self, member: Member) -> bool:
        """Whether a worker has made itself known."""
        query = "SELECT count(*) FROM queue.processes WHERE pid = %s AND kind = 'worker' AND slots > 0"
        return bool(self.database.value(query, (member.pid,)))

    def await_workers(self) -> None:
        """Wait until all workers have made themselves known."""
        for member in self.workers:
            eventually(lambda member=member: self.is_serving(member), START_SECONDS)  # type: ignore[misc]  # bound now

    def running(self, member: Member | psutil.Process) -> list[tuple[UUID, str, int]]:
        """The attempts that a worker runs: task id, type and number."""
        rows: list[Any] = self.database.rows(_WORKERS_TASKS, (member.pid,))
        return rows

    # -------------------------------------------------------------------------------------------- tasks

    def enqueue(self, payloads: Sequence[Payload]) -> list[UUID]:
        """Commit tasks of one type."""
        with psycopg.connect(self.database.owner_url) as connection:
            return enqueue_many(connection, payloads)

    def live(self) -> int:
        """How many tasks have not ended."""
        return int(self.database.value("SELECT count(*) FROM queue.tasks_live"))

    def in_progress(self) -> int:
        """How many attempts run, wherever."""
        return int(self.database.value("SELECT count(*) FROM queue.tasks_live WHERE status = 'in_progress'"))

    def await_end(self, seconds: float = 60.0) -> None:
        """Wait until every task has ended, replacing processes that fall over."""
        eventually(lambda: self.tend() and self.live() == 0, seconds, pause=0.2)

    def task(self, task_id: UUID) -> tuple[str, int]:
        """A task's status and counted attempts."""
        query = "SELECT status, attempts FROM queue.outbox_tasks WHERE id = %s"
        [(status, attempts)] = self.database.rows(query, (task_id,))
        return status, attempts

    # -------------------------------------------------------------------------------------------- the server

    def stop_server(self, *, at_once: bool = False) -> None:
        """Take Postgres away: in order, or `at_once`, as a crash leaves it."""
        if at_once:
            first, *_ = (self.home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
            os.kill(int(first), signal.SIGQUIT)
            eventually(lambda: not self.server.is_running, 20)
        self.server.stop()

    def start_server(self) -> None:
        """Bring Postgres back."""
        self.server.start()

    def close(self) -> None:
        """End all processes and check that none is left."""
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                member.end()
        try:
            eventually(lambda: not of_sessions(self._sessions), 20)
        finally:
            for process in of_sessions(self._sessions):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


@contextmanager
def rig(server: EmbeddedServer, home: Path, template: str, broker_url: str | None) -> Iterator[Rig]:
    """A rig over a database of its own; nothing of it runs after the block."""
    with cloned(server, template) as database:
        running = Rig(server, home, database, broker_url)
        try:
            yield running
        finally:
            for member in running.members:  # pytest shows it with a test that failed
                sys.stderr.write(f"--- {member.role.name}, {member.status()}, said last:\n{member.last_lines()}\n")
            running.close()
            server.start()  # a test that failed may have left it down
