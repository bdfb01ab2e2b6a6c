"""Each default policy takes what is just too old, and neither what is just too young nor what is held.

All are run once, by the task that schedules enqueue, in runs whose cutoffs were fixed before. One row stands at a
policy's cutoff and is too young by nothing, one a microsecond before it, and one as long before it that is held. What
goes by hours or whole months has its cutoff at the end of one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from db.embedded import EmbeddedServer
from pipelines.enqueue import enqueue
from pipelines.registry import Registry, provide_resources
from pipelines.resources import Resources
from pipelines.retention.enforce import TASKS, EnforceRetention
from tests.support.database import Database, cloned
from tests.support.engine import fast_settings, publish
from tests.support.factory import Factory, Row, partition_key, table
from tests.support.retention_runs import let_go
from tests.support.statements import column
from tests.support.tenants import ids, named, new_tenant
from workers.testing import drain

MICROSECOND, DAY = timedelta(microseconds=1), timedelta(days=1)
POLICIES = """
SELECT name, table_schema || '.' || table_name, age_column, action,
    CASE action WHEN 'delete' THEN now() - age WHEN 'roll_up' THEN date_trunc('hour', now() - age, 'UTC')
        ELSE date_trunc('month', now() - age, 'UTC') END
FROM ops.retention_policies WHERE NOT is_held ORDER BY name
"""
BEGIN = """
INSERT INTO ops.retention_runs (policy_id, policy_name, table_schema, table_name, action, cutoff)
SELECT id, name, table_schema, table_name, action, %s FROM ops.retention_policies WHERE name = %s
"""
HOLD = """
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, is_held, hold_reason)
SELECT 'hold ' || name, table_schema, table_name, age_column, age, %s, true, 'a court''s order'
FROM ops.retention_policies WHERE name = %s
"""
UNPURGED = """
SELECT c.oid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attname = 'deleted_at' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT EXISTS (
    SELECT FROM ops.retention_policies p WHERE p.age_column = 'deleted_at' AND p.age = '30 days' AND p.action = 'delete'
        AND p.filter = '{}' AND p.source = '004' AND format('%I.%I', p.table_schema, p.table_name)::regclass = c.oid)
ORDER BY 1
"""
OF_AUDIT = "SELECT name, is_enabled FROM ops.retention_policies WHERE table_schema = 'audit'"
KEEP_AUDIT = """
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, action)
VALUES ('audit', 'audit', 'audit_log', 'changed_at', '7 years', %s)
"""
CASCADES = "SELECT child FROM ops.dependents(%s::regclass) WHERE child = %s::regclass"
TOLD = """
SELECT name, table_schema || '.' || table_name, age_column, age::text, action, cadence,
    source, CASE WHEN is_enabled THEN 'on' ELSE 'off' END
FROM ops.retention_policies ORDER BY name
"""
PAGE = Path(__file__).resolve().parents[3] / "docs" / "retention.md"
RUNS = "SELECT policy_name, status, rows_deleted, rows_held, error_message FROM ops.retention_runs"
CONDITION = "SELECT ops.retention_condition(id, %s) FROM ops.retention_policies WHERE name = %s"

Given = Callable[[Factory, datetime], Row]
"""What a row of an age needs beside its age."""


def nothing(_ours: Factory, _at: datetime) -> Row:
    return {}


def since(column: str) -> Given:
    """A row that began the day before."""
    return lambda _ours, at: {column: at - DAY}


def measured(ours: Factory, at: datetime) -> Row:
    """A measure whose hour is rolled up."""
    persona = ours.row("assistants.personas")["id"]
    hour = at.replace(minute=0, second=0, microsecond=0)
    ours.row("ops.persona_health_hourly", persona_id=persona, hour=hour, sample_count=1)
    return {"persona_id": persona}


@dataclass(frozen=True)
class Case:
    """How rows are made of which a policy speaks; `others` are rows as old of which it does not."""

    given: Given = nothing
    others: tuple[Row, ...] = ()
    fixed: Row = field(default_factory=dict)


CASES = {
    "agent-sessions": Case(since("started_at"), ({"status": "failed"},), {"status": "completed"}),
    "api-keys": Case(
        others=({"status": "active"}, {"status": "revoked", "revoked_at": "2026-01-01"}), fixed={"status": "expired"}
    ),
    "attempts": Case(),
    "audit-events": Case(),
    "deleted-agents": Case(others=({"deleted_at": None},)),
    "deleted-collections": Case(others=({"deleted_at": None},)),
    "deleted-conversations": Case(others=({"deleted_at": None},)),
    "deleted-documents": Case(others=({"deleted_at": None},)),
    "deleted-mcp-servers": Case(others=({"deleted_at": None},)),
    "deleted-persons": Case(others=({"deleted_at": None},)),
    "deleted-users": Case(others=({"deleted_at": None},)),
    "deleted-workflows": Case(others=({"deleted_at": None},)),
    "emails": Case(fixed={"direction": "inbound", "status": "received"}),
    "governance-events": Case(
        lambda ours, _at: {"agent_session_id": ours.row("governance.agent_sessions")["id"]},
    ),
    "health-metrics": Case(measured),
    "messages": Case(),
    "rag-queries": Case(),
    "runs": Case(since("started_at"), ({"completed_at": None, "status": "running"},), {"status": "completed"}),
    "sessions": Case(),
    "tasks": Case(fixed={"status": "cancelled"}),
    "tool-executions": Case(lambda _ours, at: {"started_at": at}),
    "usage-metrics": Case(lambda _ours, at: {"period_end": at + DAY}),
    "user-sessions": Case(since("started_at"), ({"ended_at": None, "status": "active"},), {"status": "ended"}),
}
"""By the policy's name. Who adds a default policy adds its case."""


class Policy(NamedTuple):
    """A policy as it stands, with the cutoff of its run."""

    name: str
    table: str
    age_column: str
    action: str
    cutoff: datetime

    @property
    def written(self) -> str:
        """The table that its rows are written to: history is a part of one."""
        return "queue.outbox_tasks" if self.table == "queue.tasks_history" else self.table

    @property
    def key(self) -> str:
        """The column that a row is known by."""
        return "id" if "id" in table(self.written).columns else "task_id"

    @property
    def held_at(self) -> datetime:
        """Just too old, and in a month of its own where one held row keeps all of a month."""
        last = self.cutoff - MICROSECOND
        if self.action != "drop_partition":
            return last
        return last.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - MICROSECOND


class Rows(NamedTuple):
    """The rows of a policy by their keys."""

    young: Any
    old: Any
    held: Any
    others: set[Any]


def made(ours: Factory, policy: Policy, at: datetime, **other: Any) -> Any:
    """Write a row of that age; return its key."""
    case = CASES[policy.name]
    if partition_key(table(policy.written)) is not None:
        ours.owner.execute("SELECT ops.create_month(%s::regclass, %s)", (policy.table, at))
    given = {policy.age_column: at} | case.fixed | case.given(ours, at) | other
    return ours.row(policy.written, **given)[policy.key]


def seeded(ours: Factory, policy: Policy) -> Rows:
    """Write the rows of a policy, hold one, and begin its run."""
    old = policy.cutoff - MICROSECOND
    rows = Rows(
        made(ours, policy, policy.cutoff),
        made(ours, policy, old),
        made(ours, policy, policy.held_at),
        {made(ours, policy, old, **other) for other in CASES[policy.name].others},
    )
    ours.owner.execute(HOLD, (Jsonb({policy.key: str(rows.held)}), policy.name))
    return rows


@dataclass(frozen=True)
class Enforced:
    """What was there, what is left, and what the runs came to: status, rows that went, rows that are held, error."""

    rows: dict[str, Rows]
    left: dict[str, set[Any]]
    runs: dict[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def migrated(server_without_fsync: EmbeddedServer, template_database: str) -> Iterator[Database]:
    with cloned(server_without_fsync, template_database) as database:
        publish(database, Registry(TASKS))
        yield database


@pytest.fixture(scope="module")
def policies(migrated: Database) -> list[Policy]:
    return [Policy(*row) for row in migrated.rows(POLICIES)]


@pytest.fixture(scope="module")
def enforced(migrated: Database, policies: list[Policy], tmp_path_factory: pytest.TempPathFactory) -> Enforced:
    """All policies, switched on and run once."""
    ours = Factory(migrated.connect(), migrated.value("SELECT identity.default_tenant_id()"))
    migrated.rows("UPDATE ops.retention_policies SET is_enabled = true")
    rows = {policy.name: seeded(ours, policy) for policy in policies}
    system = migrated.connect("system")
    for policy in policies:
        system.execute(BEGIN, (policy.cutoff, policy.name))
    enqueue(system, EnforceRetention())
    settings = fast_settings(storage={"root": tmp_path_factory.mktemp("storage")})
    drain(migrated, Registry(TASKS), resources=provide_resources(Resources(), settings))
    left = {policy.name: keys(migrated, policy) for policy in policies}
    return Enforced(rows, left, {name: tuple(rest) for name, *rest in migrated.rows(RUNS)})


def keys(migrated: Database, policy: Policy, condition: str = "true") -> set[Any]:
    query = sql.SQL("SELECT {} FROM {} r0 WHERE ").format(sql.Identifier(policy.key), named(policy.table))
    return {row[0] for row in migrated.rows(query.as_string() + condition)}


# ------------------------------------------------------------------------------------------------ at the edge


def test_each_default_policy_has_a_case(policies: list[Policy]) -> None:
    assert {policy.name for policy in policies} == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_too_old_goes_and_too_young_and_held_stay(enforced: Enforced, name: str) -> None:
    rows, left = enforced.rows[name], enforced.left[name]
    assert rows.young in left
    assert rows.old not in left
    assert rows.held in left
    assert rows.others <= left
    assert enforced.runs[name] == ("completed", 1, 1, None)


@pytest.mark.parametrize("name", sorted(name for name in CASES if name.startswith("deleted-")))
def test_what_is_purged_is_found_by_its_index(
    migrated: Database, policies: list[Policy], enforced: Enforced, name: str
) -> None:
    """Whatever else the condition asks, rows that live are not looked at."""
    [policy] = [policy for policy in policies if policy.name == name]
    condition = migrated.value(CONDITION, (policy.cutoff, name))
    explain = sql.SQL("EXPLAIN SELECT FROM {} r0 WHERE ").format(named(policy.table)).as_string() + condition
    plan = column(migrated.connect("system"), explain + " ORDER BY r0.deleted_at LIMIT 500")
    index = f"{policy.table.partition('.')[2]}_deleted_at_idx"
    assert [line for line in plan if line.lstrip(" ->").startswith(f"Index Scan using {index} on ")] != []


# ------------------------------------------------------------------------------------------------ what is left alone


def test_what_is_deleted_in_two_steps_has_a_policy(migrated: Database) -> None:
    """But a tenant, which a task erases."""
    assert migrated.rows(UNPURGED) == [("identity.tenants",)]


def test_the_audit_is_kept_for_ever_unless_a_policy_says_otherwise(database: Database) -> None:
    assert database.rows(OF_AUDIT) == [("audit-events", False)]
    operator = database.connect("operator")
    for action in ("archive", "drop_partition"):
        with operator.transaction(force_rollback=True):
            assert operator.execute(KEEP_AUDIT, (action,)).rowcount == 1
    with pytest.raises(psycopg.errors.CheckViolation, match="action"):
        operator.execute(KEEP_AUDIT, ("delete",))


def test_decisions_stay_when_the_session_goes(enforced: Enforced, migrated: Database, policies: list[Policy]) -> None:
    assert migrated.rows(CASCADES, ("governance.agent_sessions", "governance.governance_events")) == []
    [policy] = [policy for policy in policies if policy.name == "agent-sessions"]
    with new_tenant(migrated) as ours:
        session = made(ours, policy, policy.cutoff - DAY)
        event = ours.row("governance.governance_events", agent_session_id=session)["id"]
        assert let_go(migrated.connect("system"), policy.name) > 0
        assert session not in keys(migrated, policy)
        assert event in ids(ours.owner, "governance.governance_events")


def test_a_deleted_server_that_another_tenant_has_configured_is_passed_over(
    enforced: Enforced, migrated: Database, policies: list[Policy]
) -> None:
    system = migrated.connect("system")
    [policy] = [policy for policy in policies if policy.name == "deleted-mcp-servers"]
    with new_tenant(migrated) as ours, new_tenant(migrated) as theirs:
        used, unused = (made(ours, policy, policy.cutoff - DAY, is_public=True) for _ in range(2))
        config = theirs.row("tools.mcp_server_configs", mcp_server_id=used)["id"]
        assert let_go(system, policy.name) > 0
        assert keys(migrated, policy) & {used, unused} == {used}
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match="is in use"):
            ours.owner.execute("DELETE FROM tools.mcp_servers WHERE id = %s", (used,))
        theirs.owner.execute("DELETE FROM tools.mcp_server_configs WHERE id = %s", (config,))
        assert let_go(system, policy.name) == 1
        assert used not in keys(migrated, policy)


def test_operators_read_what_goes_by_default(database: Database) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What goes by default")[2].partition("\n## ")[0]
    told = [
        tuple(cell.strip().strip("`") for cell in row.split("|")[1:-1]) for row in section.splitlines() if "| `" in row
    ]
    assert told == database.rows(TOLD)
