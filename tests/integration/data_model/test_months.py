"""Months are made and let go beside the work: who works waits for neither, and a month has all that its table has."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from db import leases, months, retention_runs
from db.connection import Connection
from db.leases import Ending
from db.queue import Capacity
from pipelines.enqueue import enqueue
from tests.support.database import Database
from tests.support.engine import Line, claim_from
from tests.support.factory import Factory
from tests.support.months import EVENTS, HISTORY, LAST, MISSING, old_tasks, reading
from tests.support.statements import column, value
from tests.support.tasks import Noop
from tests.support.tenants import acting
from tests.support.waiting import eventually

# What a claim, an enqueue or an end may wait for a lock, which is longer than a month's lock is asked for.
PATIENCE = "SET lock_timeout = '150ms'"
SEEN = "SELECT id FROM governance.governance_events"
WANTED = Capacity("default", 1e9, ["test.noop"], [1], [100])


@pytest.fixture
def alone(database: Database) -> Factory:
    """The maker of rows in a database of the test's own: months are everybody's."""
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


# ------------------------------------------------------------------------------------------------ beside the work


Step = Callable[[dict[str, Connection]], None]


class Clients:
    """Producers, relays, workers and others at work, none of which waits long for a lock; `ends` counts ended tasks."""

    def __init__(self, database: Database, *others: Step) -> None:
        self._database = database
        self._over = threading.Event()
        steps = (self._enqueue, self._run, *others)
        self._threads = [threading.Thread(target=self._work, args=(step,)) for step in steps]
        self.ends = 0
        self.errors: list[BaseException] = []

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, step: Step) -> None:
        connections = {role: self._database.connect(role) for role in ("producer", "relay", "worker")}
        for connection in connections.values():
            connection.execute(PATIENCE.encode())
        try:
            while not self._over.is_set():
                step(connections)
        except psycopg.Error as error:
            self.errors.append(error)

    def _enqueue(self, connections: dict[str, Connection]) -> None:
        enqueue(connections["producer"], Noop())

    def _run(self, connections: dict[str, Connection]) -> None:
        worker, worker_id = connections["worker"], uuid4()
        pairs = [(c.task_id, c.claim_number) for c in claim_from(connections["relay"], WANTED, limit=10)]
        with worker.transaction():
            attempts = leases.take(worker, pairs, worker_id=worker_id, lease_seconds=30, time_limit=60)
        self.ends += len(leases.finish(worker, [Ending(attempt, "done") for attempt in attempts], worker_id))


def test_nobody_waits_for_a_month_that_somebody_reads(database: Database, line: Line) -> None:
    old_tasks(database)
    system = database.connect("system")
    with Clients(database) as clients:
        with reading(database):
            run_id, _ = retention_runs.begin(system, "tasks", uuid4(), is_confirmed=False)
            assert run_id is not None
            before = clients.ends
            outcomes = [months.drop(system, run_id, f"{HISTORY}_2020_02") for _ in range(20)]
            assert outcomes == [("busy", 0)] * 20
        assert months.drop(system, run_id, f"{HISTORY}_2020_02") == ("dropped", 0)
    assert clients.errors == []
    assert clients.ends > before


def write(connections: dict[str, Connection]) -> None:
    """Write, as far as locks go, what messages refer to."""
    connections["worker"].execute("UPDATE assistants.conversations SET status = status WHERE id = %s", (uuid4(),))


def test_nobody_waits_for_a_month_that_is_made_beside_writers(database: Database, line: Line) -> None:
    lacking = ("assistants.messages", HISTORY)
    for table in lacking:
        leaf = database.value(LAST, (table,))
        database.rows(f"ALTER TABLE {table} DETACH PARTITION {leaf}")
        database.rows(f"DROP TABLE {leaf}")
    relay, writer = database.connect("relay"), database.connect("worker")
    with Clients(database, write) as clients:
        with writer.transaction():
            write({"worker": writer})
            assert [months.make_missing(relay) for _ in range(3)] == [["assistants.messages"]] * 3
        assert months.make_missing(relay) == []
        eventually(lambda: clients.ends > 0)
    assert clients.errors == []
    assert database.rows(MISSING) == []


# ------------------------------------------------------------------------------------------------ months that are made

# Of each parted table: indexes, references and row security that a leaf lacks, and rights that somebody has on it.
LACKING = """
SELECT m.leaf::text, 'index ' || p.indexrelid::regclass FROM ops.months() m JOIN pg_index p ON p.indrelid = m.relation
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid
    WHERE i.indrelid = m.leaf AND h.inhparent = p.indexrelid AND i.indisvalid)
UNION ALL
SELECT m.leaf::text, k.conname FROM ops.months() m JOIN pg_constraint k ON k.conrelid = m.relation AND k.conparentid = 0
WHERE k.contype IN ('f', 'p', 'u') AND NOT EXISTS
    (SELECT FROM pg_constraint c WHERE c.conrelid = m.leaf AND c.conparentid = k.oid AND c.convalidated)
UNION ALL
SELECT m.leaf::text, 'row security' FROM ops.months() m JOIN pg_class c ON c.oid = m.leaf
WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
UNION ALL
SELECT m.leaf::text, 'policies' FROM ops.months() m
WHERE (SELECT array_agg(p.polname::text) FROM pg_policy p WHERE p.polrelid = m.leaf) IS DISTINCT FROM '{owner_passes}'
UNION ALL
SELECT m.leaf::text, 'rights of ' || a.grantee::regrole FROM ops.months() m JOIN pg_class c ON c.oid = m.leaf,
    aclexplode(c.relacl) a WHERE a.grantee <> c.relowner
UNION ALL
SELECT m.leaf::text, 'a rule for its making' FROM ops.months() m JOIN pg_constraint k ON k.conrelid = m.leaf
WHERE k.conname = 'within_month'
"""


def test_a_month_has_all_that_its_table_has_and_is_nobodys(database: Database) -> None:
    made = database.rows("SELECT ops.create_month(relation, '2031-05-01') FROM ops.parted_tables()")
    assert len(made) >= 10
    assert database.rows(LACKING) == []


def test_a_month_that_was_made_and_not_attached_is_attached(database: Database) -> None:
    leaf = database.value(LAST, (HISTORY,))
    database.rows(f"DROP TABLE {leaf}")
    database.rows(f"CREATE TABLE {leaf} (LIKE {HISTORY} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    assert months.make_missing(database.connect("relay")) == []
    assert database.value(LAST, (HISTORY,)) == leaf
    assert database.rows(LACKING) == []


def test_a_month_that_was_detached_comes_back_with_its_rows(database: Database, alone: Factory) -> None:
    leaf = database.value("SELECT ops.create_month(%s::regclass, now())", (EVENTS,))
    assert leaf is None, "it was there"
    event = alone.row(EVENTS, agent_session_id=alone.row("governance.agent_sessions")["id"])
    leaf = database.value("SELECT tableoid::regclass::text FROM governance.governance_events")
    database.rows(f"ALTER TABLE {EVENTS} DETACH PARTITION {leaf}")
    assert database.rows(SEEN) == []
    assert months.make_missing(database.connect("relay")) == []
    assert database.rows(SEEN) == [(event["id"],)]
    assert database.rows(LACKING) == []


def test_relays_that_make_months_at_once_do_no_harm_to_each_other(database: Database) -> None:
    tables = [HISTORY, "queue.attempts", "audit.audit_log", "billing.usage_metrics", "tools.tool_executions"]
    for table in tables:
        database.rows(f"DROP TABLE {database.value(LAST, (table,))}")
    relays, barrier = [database.connect("relay") for _ in range(4)], threading.Barrier(4)

    def make(relay: Connection) -> None:
        barrier.wait(20)
        months.make_missing(relay)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, relays))
    assert months.make_missing(relays[0]) == []
    assert database.rows(LACKING) == []


def test_a_month_that_is_not_missing_is_not_made(database: Database) -> None:
    with acting(database, "relay") as relay:
        for moment in ("2020-02-01", "now()"):
            make = "SELECT ops.make_month('queue.attempts', %s)"
            assert value(relay, make, moment) is False
        assert column(relay, "SELECT leaf::text FROM ops.months() WHERE since < '2021-01-01'") == set()
