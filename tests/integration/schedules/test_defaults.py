"""Each schedule that Greenroom declares runs its task on seeded data, and does what it is there for.

A schedule without a case here fails the suite: a case makes what its task is to mend, and says how to tell that it did.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from console.setup import create_space, install_schedules
from db import files, fires, schedules
from db.connection import connect
from db.embedded import EmbeddedServer
from db.seed import seed
from pipelines.documents.models import find_model
from pipelines.publish import publish_types
from pipelines.registry import load_registry, load_schedules, provide_resources
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from scheduler.firing import Firer
from tests.support.care import FILES, INVALID, leave_behind, let_maintain
from tests.support.database import Database, cloned
from tests.support.engine import fast_settings
from tests.support.factory import Factory
from tests.support.months import HISTORY, LAST, MISSING, PAST, old_tasks
from workers.testing import drain

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
REGISTRY = load_registry()
SCHEDULES = {schedule.name: schedule for declared in load_schedules().values() for schedule in declared}
PRODUCTS, LIVE, LOG = "knowledge.products", "queue.tasks_live", "audit.audit_log"
VACUUMED = "SELECT last_vacuum IS NOT NULL, n_dead_tup FROM pg_stat_all_tables WHERE relid = %s::regclass"
KNOWN = "SELECT reltuples >= 0 FROM pg_class WHERE oid = %s::regclass"
LIVING = """
SELECT count(*) FROM assistants.personas p JOIN identity.tenants t ON t.id = p.tenant_id
WHERE t.status = 'active' AND p.is_active AND p.host IS NULL
"""
MEASURED = (
    "SELECT count(DISTINCT persona_id) FROM ops.persona_health_metrics WHERE measured_at > now() - interval '5 minutes'"
)
AN_HOUR_AGO = """
INSERT INTO ops.persona_health_metrics (tenant_id, persona_id, measured_at)
SELECT tenant_id, id, date_trunc('hour', now()) - interval '30 minutes' FROM assistants.personas
"""
ROLLED_UP = "SELECT count(*), sum(sample_count) FROM ops.persona_health_hourly"
OLD_SESSIONS = "SELECT count(*) FROM identity.sessions WHERE expires_at < '2021-01-01'"
OLD_AGENTS = "SELECT count(*) FROM governance.agent_sessions WHERE completed_at < '2021-01-01'"
COMPLETED = """
INSERT INTO governance.agent_sessions (tenant_id, user_id, agent_type, status, completed_at)
SELECT tenant_id, id, 'researcher', 'completed', '2020-01-01' FROM identity.users LIMIT 1
"""
LEARNT = """
WITH learner AS (
    SELECT p.id, p.tenant_id FROM assistants.personas p JOIN identity.tenants t ON t.id = p.tenant_id
    WHERE t.status = 'active' ORDER BY p.id LIMIT 1
), document AS (
    INSERT INTO knowledge.documents (tenant_id, persona_id, name, current_version, next_version)
    SELECT tenant_id, id, 'notes', 1, 1 FROM learner RETURNING id, tenant_id, persona_id
)
INSERT INTO knowledge.chunks (tenant_id, document_id, persona_id, version, chunk_index, text, text_hash, start_offset,
    end_offset)
SELECT tenant_id, id, persona_id, 1, 0, 'a knot', sha256('a knot'), 0, 6 FROM document
"""
CURATED = """
SELECT count(*) FROM queue.tasks_history t JOIN knowledge.chunks c ON c.persona_id::text = t.payload ->> 'persona_id'
WHERE t.task_type = 'memory.curate' AND t.status = 'done'
"""
USED = "SELECT DISTINCT usage_count FROM people.mapper_configs"
LONG_AGO = "2020-02-03 00:00+00"
MARKED = "SELECT id FROM people.personas WHERE expired_at IS NOT NULL"
WAITED = "UPDATE queue.schedules SET settled_at = now() - interval '40 days' WHERE name = %s RETURNING id"
"""For longer than the period of any: the last time that was missed is made up for."""
HOME = Path(tempfile.gettempdir()) / f"greenroom-defaults-{os.getpid()}"
"""Where the tasks find the storage."""
_ROW = re.compile(r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)

Mended = Callable[[], bool]
"""Says whether what a case spoiled is as it ought to be."""


def firer(schedule: Schedule) -> Firer:
    """Return who fires one time, at whatever minute: a past one is made up for, or, where none is, in time yet."""
    return Firer(timedelta(minutes=1 if schedule.missed == "skip" else 0), draw=lambda most: 0.0)


def _months(database: Database) -> Mended:
    """A month that lacks."""
    database.rows(f"DROP TABLE {database.value(LAST, (HISTORY,))}")
    return lambda: database.rows(MISSING) == []


def _counters(database: Database) -> Mended:
    """Counts that are wrong."""
    database.rows("UPDATE people.mapper_configs SET usage_count = 1000000")
    return lambda: database.rows(USED) == [(0,)]


def _dead_rows(database: Database) -> Mended:
    """Rows that were changed since anybody vacuumed their table."""
    [(is_vacuumed, dead)] = database.rows(VACUUMED, (PRODUCTS,))
    assert not is_vacuumed
    assert dead > 0
    return lambda: database.rows(VACUUMED, (PRODUCTS,)) == [(True, 0)]


def _statistics(database: Database) -> Mended:
    """Parted tables of which the planner knows nothing."""
    assert not database.value(KNOWN, (LOG,))
    return lambda: all(database.value(KNOWN, (table,)) for table in (HISTORY, LOG))


def _indexes(database: Database) -> Mended:
    """An index that a broken off rebuild left behind, beside those that have grown."""
    leave_behind(database)
    before = dict(database.rows(FILES, (LIVE,)))

    def is_mended() -> bool:
        after = dict(database.rows(FILES, (LIVE,)))
        return not set(before.values()) & set(after.values()) and database.rows(INVALID) == []

    return is_mended


def _measures(database: Database) -> Mended:
    """Personas that were not measured for a while."""
    living = database.value(LIVING)
    assert living > 1
    return lambda: bool(database.value(MEASURED) == living)


def _hours(database: Database) -> Mended:
    """An hour that is over, with a measure of each persona."""
    database.connect("system").execute(
        "SELECT ops.create_months_of('ops.persona_health_metrics', now() - interval '1 hour', now())"
    )
    database.rows(AN_HOUR_AGO + " RETURNING id")
    count = database.value("SELECT count(*) FROM assistants.personas")
    return lambda: database.rows(ROLLED_UP) == [(count, count)]


def _factory(database: Database) -> Factory:
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def _personas(database: Database) -> Mended:
    """Generated personas whose time to live is over."""
    made = _factory(database).row("people.personas", expires_at=LONG_AGO)["id"]
    return lambda: database.rows(MARKED) == [(made,)]


def _keys(database: Database) -> Mended:
    """API keys whose time is over."""
    made = _factory(database).row("identity.api_keys", expires_at=LONG_AGO)["id"]
    return lambda: database.rows("SELECT id FROM identity.api_keys WHERE status = 'expired'") == [(made,)]


def _old_sessions(database: Database) -> Mended:
    """Sessions that have expired long ago."""
    _factory(database).row("identity.sessions", created_at="2020-01-01", expires_at="2020-01-02")
    return lambda: bool(database.value(OLD_SESSIONS) == 0)


def _old_history(database: Database) -> Mended:
    """A month of ended tasks that is over."""
    database.rows("UPDATE ops.retention_policies SET most_share = 1 WHERE name = 'tasks'")
    old_tasks(database, 3)
    return lambda: database.rows(PAST) == []


def _old_agents(database: Database) -> Mended:
    """A run of an agent that was completed years ago."""
    database.rows("UPDATE ops.retention_policies SET most_share = 1 WHERE name = 'agent-sessions'")
    database.rows(COMPLETED)
    return lambda: bool(database.value(OLD_AGENTS) == 0)


def _stored(path: str, hours: int) -> Path:
    """A file of the default tenant's that was written so many hours ago."""
    file = HOME / "storage" / "00000000-0000-7000-8000-000000000001" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hello")
    moment = file.stat().st_mtime - hours * 3600
    os.utime(file, (moment, moment))
    return file


def _released(database: Database) -> Mended:
    """A document that was deleted, and its file."""
    file = _stored("released", 0)
    key = str(file.relative_to(HOME / "storage"))
    made = "INSERT INTO knowledge.documents (tenant_id, name, file_path) VALUES (identity.default_tenant_id(), 'a', %s)"
    database.connect().execute(made, (key,))
    database.rows("DELETE FROM knowledge.documents WHERE file_path = %s RETURNING 1", (key,))
    return lambda: not file.exists() and database.value("SELECT count(*) FROM ops.released_files") == 0


def _temporary(_database: Database) -> Mended:
    """Temporary files, one of them a day old."""
    young, old = _stored("temporary/young.mp3", 23), _stored("temporary/old.mp3", 25)
    return lambda: young.exists() and not old.exists()


def _orphans(database: Database) -> Mended:
    """A file that no row owns, which is told of and stays."""
    file = _stored("orphan", 25)

    def is_told() -> bool:
        found = files.last_check(database.connect("operator"))
        return found is not None and found[0]["orphans"] == 1 and file.exists()

    return is_told


def _memories(database: Database) -> Mended:
    """A chunk of a persona that curation has not looked for; its vector is missing, so that nobody loads a model."""
    with connect(database.owner_url, name="test") as owner:
        create_space(owner, find_model())
        owner.execute(LEARNT)
    return lambda: bool(database.value(CURATED) == 1)


def _left_mail(database: Database) -> Mended:
    """Mails that are on their way, and no task works for them."""
    made = _factory(database)
    marked = {"sending_at": datetime.now(UTC), "message_id": "<1@example.com>"}
    given = made.row("mail.emails", direction="outbound", status="sending", **marked)["id"]
    database.rows("UPDATE mail.mailboxes SET is_paused = true")
    query = "SELECT status FROM mail.emails WHERE id = %s"
    return lambda: bool(database.value(query, (given,)) == "unknown")


def _unread_mailbox(database: Database) -> Mended:
    """A mailbox that was never polled; nobody listens where it is, which a poll says of it."""
    made = _factory(database).row("mail.mailboxes", imap_host="localhost", imap_port=1, imap_security="tls")["id"]
    database.rows("UPDATE mail.mailboxes SET is_paused = id <> %s", (made,))
    query = "SELECT failed_polls FROM mail.mailboxes WHERE id = %s AND last_polled_at IS NOT NULL"
    return lambda: bool(database.rows(query, (made,)) == [(1,)])


class Case(NamedTuple):
    """How a schedule's task is tried.

    `spoil` makes what it is to mend; `sizes` take the place of its payload's, where no test fills as much.
    """

    spoil: Callable[[Database], Mended]
    sizes: tuple[tuple[str, int], ...] = ()


CASES = {
    "personas-expire": Case(_personas),
    "api-keys-expire": Case(_keys),
    "personas-measure": Case(_measures),
    "health-rollup": Case(_hours),
    "memories": Case(_memories),
    "emails-settle": Case(_left_mail),
    "mailboxes-poll": Case(_unread_mailbox),
    "vacuum": Case(_dead_rows, (("least_bytes", 0),)),
    "planner-statistics": Case(_statistics),
    "indexes": Case(_indexes, (("least_bytes", 0),)),
    "partitions": Case(_months),
    "counters": Case(_counters),
    "retention-hourly": Case(_old_sessions),
    "retention-daily": Case(_old_history),
    "retention-monthly": Case(_old_agents),
    "released-files": Case(_released),
    "temporary-files": Case(_temporary),
    "storage-orphans": Case(_orphans),
}
"""By the schedule's name. Who declares a schedule adds its case."""


@pytest.fixture(scope="module")
def seeded(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """A database with development data, in which some rows were changed."""
    with cloned(server_without_fsync, template_database) as database:
        with connect(database.owner_url, name="test") as owner:
            seed(owner, None)
            owner.execute("UPDATE knowledge.products SET name = name || '.'")
            owner.execute("SELECT pg_stat_force_next_flush()")
            publish_types(owner, REGISTRY)
            install_schedules(owner, fast_settings())
        yield database
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_schedule_does_what_it_is_there_for(seeded: Database, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    let_maintain(seeded, monkeypatch)
    case, operator = CASES[name], seeded.connect("operator")
    is_mended = case.spoil(seeded)
    assert not is_mended()
    if case.sizes:
        schedules.edit(operator, name, payload=json.loads(SCHEDULES[name].payload.model_dump_json()) | dict(case.sizes))
    [(schedule_id,)] = seeded.rows(WAITED, (name,))
    assert firer(SCHEDULES[name]).look(seeded.connect("scheduler"), schedule_id)
    drain(seeded, REGISTRY, resources=provide_resources(Resources(), fast_settings(home=HOME)))
    fire, *before = fires.history(operator, schedule_id, limit=10)
    assert {earlier.outcome for earlier in before} <= {"missed"}
    assert (fire.outcome, fire.status, fire.last_error) == ("enqueued", "done", None)
    assert is_mended()


def test_a_case_is_of_a_schedule() -> None:
    assert set(CASES) == set(SCHEDULES)


def test_operators_are_told_when_each_task_recurs_or_why_not() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Tasks of Greenroom's own")[2].partition("\n## ")[0]
    rows = dict(_ROW.findall(section))
    assert sorted(rows) == REGISTRY.names()
    for task_type, told in rows.items():
        declared = [schedule for schedule in SCHEDULES.values() if schedule.task_type == task_type]
        said = "; ".join(f"`{schedule.name}`: `{schedule.cron}` ({schedule.design})" for schedule in declared)
        assert told.startswith(said or "not by a schedule: "), task_type
