"""`retention plan`: what would go now, to the row what a run then takes; it changes nothing."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from core.errors import GreenroomError
from db import retention_plans
from db.connection import Connection
from db.embedded import EmbeddedServer
from db.retention_plans import Plan
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.retention.archive.store import ArchiveStore, LocalArchives
from pipelines.retention.enforce import EnforceRetention
from tests.support.database import Database, cloned
from tests.support.engine import publish
from tests.support.factory import Factory
from tests.support.months import EVENTS, HISTORY, RESULTS, old_tasks
from tests.support.retention_runs import ENFORCE, OLD, OLDER, add, counts, hold
from tests.support.statements import rows
from tests.support.tenants import acting, new_tenant
from workers.testing import run_task

SESSIONS, VISITS, AGENTS = "identity.sessions", "identity.user_sessions", "governance.agent_sessions"
ATTEMPTS, MESSAGES, KEYS = "queue.attempts", "assistants.messages", "identity.api_keys"
PURGED = (
    "assistants.agents", "assistants.conversations", "assistants.workflows", "identity.users", "knowledge.collections",
    "knowledge.documents", "people.persons", "tools.mcp_servers",
)  # fmt: skip
METRICS, HOURLY = "ops.persona_health_metrics", "ops.persona_health_hourly"
RUNS, STEPS, EMAILS = "assistants.runs", "assistants.run_steps", "mail.emails"
# What a run itself writes.
OWN = {
    "audit.audit_log", "ops.archive_subjects", "ops.archives", "ops.retention_runs", "queue.outbox_tasks",
    "queue.tasks_history", "queue.task_types",
}  # fmt: skip
BY_MONTH = """
SELECT tenant_id, to_char({age} AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM {table} GROUP BY 1, 2
"""
LINKS = "SELECT count(*) FROM mail.emails WHERE run_id IS NULL"
AGES = {
    SESSIONS: "expires_at", VISITS: "ended_at", AGENTS: "completed_at", METRICS: "measured_at", RUNS: "completed_at",
    EVENTS: "created_at", HISTORY: "completed_at", ATTEMPTS: "ended_at", MESSAGES: "created_at", KEYS: "expires_at",
} | dict.fromkeys(PURGED, "deleted_at")  # fmt: skip
Months = Counter[tuple[UUID | None, str]]


def plan(database: Database, wanted: str | None = None, tenant_id: UUID | None = None) -> list[Plan]:
    """Return the plan as an operator sees it."""
    return retention_plans.plan(database.connect("operator"), wanted, tenant_id, 60.0)


def by_month(database: Database) -> dict[str, Months]:
    """Return how many rows there are by table, tenant and month of their age."""
    return {
        table: Counter({(tenant, month): count for tenant, month, count in database.rows(query)})
        for table, age in AGES.items()
        for query in [BY_MONTH.format(age=age, table=table)]
    }


def planned_months(plans: list[Plan]) -> dict[str, Months]:
    """Return what plans take, by table, tenant and month."""
    found: dict[str, Months] = {table: Counter() for table in AGES}
    for each in plans:
        found[each.table].update({(month.tenant_id, month.month): month.rows for month in each.months})
    return {table: +months for table, months in found.items()}


def planned_counts(plans: list[Plan]) -> Counter[str]:
    """Return what plans take by table, with what goes along."""
    found: Counter[str] = Counter()
    for each in plans:
        found[each.table] += each.rows
        found.update({along.table: along.rows for along in each.dependents})
    return +found


# ------------------------------------------------------------------------------------------------ seeding


def fill(ours: Factory) -> None:
    """Write rows of a tenant of which policies speak: of two old months, and young ones."""
    for moment, count in ((OLD, 3), (OLDER, 2), (None, 4)):
        at: dict[str, Any] = {} if moment is None else {"created_at": moment}
        for _ in range(count):
            ours.row(SESSIONS, expires_at=moment or "2200-01-01", **at)
            visit = ours.row(VISITS, **at | ({"ended_at": moment, "started_at": moment} if moment else {}))
            ours.row("identity.session_activities", user_session_id=visit["id"])
            agent = ours.row(AGENTS, **at, status="completed", completed_at=moment or "now")
            ours.row("governance.agent_interactions", agent_session_id=agent["id"])
            a_run(ours, moment)
            ours.row(KEYS, expires_at=moment or "2200-01-01", status="expired")
            for table in PURGED:
                ours.row(table, deleted_at=moment)


def a_run(ours: Factory, moment: str | None, **given: Any) -> UUID:
    """Write a run with two steps and a mail that speaks of it; return its key."""
    at: dict[str, Any] = {} if moment is None else {"created_at": moment, "started_at": moment, "completed_at": moment}
    run = ours.row(RUNS, status="completed", **at | ({} if moment else {"completed_at": "now"}), **given)
    for number in (1, 2):
        ours.row(STEPS, run_id=run["id"], step_number=number)
    ours.row(EMAILS, run_id=run["id"])
    key: UUID = run["id"]
    return key


def measure(ours: Factory, moment: str, rolled_up: int) -> None:
    """Write two measures of an hour, of which so many are rolled up."""
    persona = ours.row("assistants.personas")["id"]
    for minute in ("10", "50"):
        ours.row(METRICS, persona_id=persona, measured_at=f"{moment}:{minute}+00")
    if rolled_up:
        ours.row(HOURLY, persona_id=persona, hour=f"{moment}:00+00", sample_count=rolled_up)


@pytest.fixture(scope="module")
def frozen(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    """Rows of three tenants of which each default policy that is on speaks, and those of a tenant and of a filter."""
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry([ENFORCE]))
        for table in (METRICS, EVENTS, RESULTS, HISTORY, ATTEMPTS, MESSAGES):
            for month in (OLD, OLDER):
                database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, month))
        with new_tenant(database) as ours, new_tenant(database) as theirs:
            for tenant in (ours, theirs):
                fill(tenant)
                for hour, rolled_up in (("2020-02-03 07", 2), ("2020-02-03 08", 1), ("2019-12-03 09", 0)):
                    measure(tenant, hour, rolled_up)
                for moment in (OLD, OLDER):
                    tenant.row(MESSAGES, created_at=moment)
                    tenant.row(ATTEMPTS, started_at=moment, ended_at=moment)
                    agent = tenant.row(AGENTS)["id"]
                    event = tenant.row(EVENTS, created_at=moment, agent_session_id=agent)
                    tenant.row(RESULTS, event_id=event["id"], event_created_at=event["created_at"])
            old_tasks(database, 3)
            old_tasks(database, 2, OLDER)
            database.rows("UPDATE ops.retention_policies SET most_share = 1")
            database.rows("UPDATE ops.retention_policies SET is_enabled = true WHERE name = 'messages'")
            database.rows("UPDATE ops.retention_policies SET age = '1 year' WHERE name = 'governance-events'")
            database.rows("UPDATE ops.retention_policies SET action = 'delete', is_enabled = true WHERE name = 'runs'")
            add(database, RUNS, "completed_at", name="their runs", tenant_id=theirs.tenant_id, age="2500 days")
            # by itself, by what goes along, by what is changed, and a month as a whole
            held = ours.row(VISITS, started_at=OLD, ended_at=OLD)["id"]
            hold(database, VISITS, filter={"id": str(held)})
            run = a_run(ours, OLD)
            hold(database, STEPS, filter={"run_id": str(run)})
            mailed = a_run(ours, OLD)
            hold(database, EMAILS, filter={"run_id": str(mailed)})
            hold(database, EVENTS, tenant_id=ours.tenant_id, filter={"agent_type": "researcher"})
            ours.row(EVENTS, created_at=OLD, agent_session_id=ours.row(AGENTS)["id"], agent_type="researcher")
            yield database


# ------------------------------------------------------------------------------------------------ to the row


def test_a_run_takes_to_the_row_what_the_plan_said(frozen: Database, tmp_path: Path) -> None:
    plans = plan(frozen)
    before, months, links = counts(frozen), by_month(frozen), frozen.value(LINKS)
    assert frozen.rows("SELECT 1 FROM ops.retention_runs") == []

    resources = Resources()
    resources.provide(ArchiveStore, lambda: LocalArchives(tmp_path))
    run = run_task(frozen, ENFORCE, EnforceRetention(), resources=resources)

    assert (run.outcome, run.result["asking"]) == ("done", [])
    after, planned = counts(frozen), planned_counts(plans)
    gone = Counter({table: before[table] - after[table] for table in before if table not in OWN})
    assert set(AGES) <= set(planned), "each policy has something to take"
    assert gone + Counter() == Counter({t: n for t, n in planned.items() if t not in OWN}), "and no table more"
    left = by_month(frozen)
    took = {table: +(months[table] - left[table]) for table in AGES}
    assert took == planned_months(plans)
    [runs] = [each for each in plans if each.policy == "runs"]
    [cleared] = [along.links for along in runs.dependents if along.table == EMAILS]
    theirs = [along.links for each in plans if each.policy == "their runs" for along in each.dependents]
    assert frozen.value(LINKS) - links == cleared + sum(theirs)
    for each in plans:
        [noted] = [end for end in run.result["runs"] if end["policy"] == each.policy]
        assert (noted.get("rows_deleted", 0), noted.get("rows_planned", 0)) == (each.rows, each.rows)
        along = {d.table: {k: n for k, n in (("rows", d.rows), ("links", d.links)) if n} for d in each.dependents}
        assert noted.get("dependents", {}) == along, each.policy
        assert noted.get("rows_held", 0) == each.held, each.policy
    # and then nothing is left to take
    assert {each.policy: each.rows for each in plan(frozen)} == dict.fromkeys([each.policy for each in plans], 0)
    assert {each.policy: each.held for each in plan(frozen)} == {each.policy: each.held for each in plans}


# ------------------------------------------------------------------------------------------------ what it shows


@pytest.fixture
def ours(database: Database) -> Factory:
    """The maker of rows of the default tenant."""
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def test_a_plan_shows_rows_bytes_and_holds_by_tenant_and_month(database: Database, ours: Factory) -> None:
    policy = add(database, RUNS, "completed_at", most_share=0.5, filter={"status": "completed"})
    keys = [a_run(ours, moment) for moment in (OLD, OLD, OLDER)]
    hold(database, RUNS, filter={"id": str(keys[0])})
    [shown] = plan(database, policy)
    size = database.value("SELECT sum(pg_column_size(r.*)) FROM assistants.runs r WHERE id <> %s", (keys[0],))
    assert [(month.tenant, month.month, month.rows, month.held) for month in shown.months] == [
        ("default", "2019-12", 1, 0),
        ("default", "2020-02", 1, 1),
    ]
    assert (shown.rows, shown.bytes, shown.held, shown.total) == (2, size, 1, 3)
    assert shown.asks
    assert [(along.table, along.rows, along.links) for along in shown.dependents] == [(STEPS, 4, 0), (EMAILS, 0, 2)]
    assert plan(database, RUNS)[-1].policy in (policy, "runs"), "a table's policies, those that are off too"


def test_a_reference_of_what_goes_itself_is_not_cleared(database: Database, ours: Factory) -> None:
    policy = add(database, "identity.users", filter={"status": "inactive"})
    user = ours.row("identity.users", created_at=OLD, status="inactive")["id"]
    visit = ours.row(VISITS, user_id=user)["id"]
    ours.row(AGENTS, user_id=user, session_id=visit)
    ours.row(AGENTS, session_id=visit)
    [shown] = plan(database, policy)
    assert [(d.table, d.rows, d.links) for d in shown.dependents] == [(AGENTS, 1, 1), (VISITS, 1, 0)]


def test_a_policy_that_is_off_lets_nothing_go(database: Database, ours: Factory) -> None:
    a_run(ours, OLD)
    [shown] = plan(database, "runs")
    assert (shown.is_enabled, shown.rows, shown.months, shown.dependents) == (False, 0, [], [])
    assert "runs" not in {each.policy for each in plan(database)}


def test_a_plan_of_a_tenant_is_of_its_rows_alone(database: Database, ours: Factory) -> None:
    policy = add(database, RUNS, "completed_at", filter={"status": "completed"})
    backups = add(database, "ops.backups", "created_at")
    with new_tenant(database) as theirs:
        for tenant in (ours, theirs):
            a_run(tenant, OLD)
        ours.row("ops.backups", created_at=OLD)
        [shown] = plan(database, policy, theirs.tenant_id)
        assert [(month.tenant_id, month.rows) for month in shown.months] == [(theirs.tenant_id, 1)]
        assert [(along.table, along.rows, along.links) for along in shown.dependents] == [(STEPS, 2, 0), (EMAILS, 0, 1)]
        assert plan(database, backups)[0].rows == 1
        assert plan(database, backups, theirs.tenant_id)[0].rows == 0, "what has no tenant is no tenant's"
        query = "SELECT tenant_id FROM ops.plan_retention(%s, %s)"
        with acting(database, "operator", theirs.tenant_id) as operator:
            assert rows(operator, query, policy, None) == [(theirs.tenant_id,)], "who is bound sees one tenant"
            assert rows(operator, query, policy, ours.tenant_id) == []


def test_a_plan_that_takes_too_long_says_what_to_do(database: Database) -> None:
    policy, owner = add(database, RUNS, "completed_at", filter={"status": "completed"}), database.connect()
    operator = database.connect("operator")
    with owner.transaction():
        owner.execute("LOCK TABLE assistants.runs")
        with pytest.raises(GreenroomError, match=r"are not counted within 0.2 s: give --timeout"):
            retention_plans.plan(operator, policy, None, 0.2)
    assert len(retention_plans.plan(operator, policy, None, 0.2)) == 1


def test_a_plan_is_of_one_moment_and_writes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    operator = database.connect("operator")

    def look(connection: Connection, *given: Any) -> None:
        settings = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        seen.append(rows(connection, settings))

    monkeypatch.setattr(retention_plans, "_plan", look)
    retention_plans.plan(operator, "tasks", None, 10.0)
    assert seen == [[("repeatable read", "on")]]
    assert rows(operator, "SELECT current_setting('transaction_read_only')") == [("off",)]


def test_a_plan_is_the_operators_and_the_systems(database: Database) -> None:
    for role in ("relay", "worker", "producer", "reader", "scheduler"):
        for call in ("plan_retention('tasks')", "plan_dependents('tasks')", "plan_total('tasks')"):
            with acting(database, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                rows(connection, f"SELECT ops.{call}")
    with acting(database, "operator") as operator:
        assert rows(operator, "SELECT ops.plan_retention('no such policy')") == []


CALLS = (
    "begin_retention('tasks', NULL, true)", "weigh_retention(NULL)", "retention_page(NULL, 1)", "end_retention(NULL)",
    "drop_emptied(NULL, NULL)", "erase_taken(NULL, NULL, 'true', 0)", "taken_condition(NULL, now())",
)  # fmt: skip


def test_runs_are_the_systems(database: Database) -> None:
    for role in ("relay", "worker", "producer", "operator", "reader"):
        for call in CALLS:
            with acting(database, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                rows(connection, f"SELECT ops.{call}")
