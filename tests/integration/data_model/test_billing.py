"""Plans, quotas, usage and bills: what the database sees to by itself, and what it lets no login do."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.connection import Connection
from pipelines.memory.summarising import Summary
from pipelines.memory.summarising.booking import book
from tests.support.database import Database
from tests.support.factory import Factory, Row
from tests.support.tenants import (
    LOOK,
    acting,
    let_go,
    refusals,
    seen,
)

TABLES = ("billing.billing_records", "billing.tenant_quotas", "billing.usage_metrics")
PLANS = "billing.subscription_plans"
TOKENS = "billing.token_usage_by_user"
USE = """
INSERT INTO billing.usage_metrics (tenant_id, metric_type, metric_value, period_start, period_end)
VALUES (%s, 'tokens', 5, now() + %s::interval, now() + %s::interval + interval '1 hour')
RETURNING tableoid::regclass::text = 'billing.usage_metrics_' || to_char(period_start AT TIME ZONE 'UTC', 'YYYY_MM')
"""
LEAVES = "SELECT relid::regclass::text FROM pg_partition_tree('billing.usage_metrics') WHERE isleaf"
INTO_PLANS = "INSERT INTO billing.subscription_plans (code, name) VALUES (ops.uuid_v7()::text, 'Pro')"


@pytest.fixture
def worker(shared: Database, ours: Factory) -> Iterator[Connection]:
    """A worker's transaction, bound to our tenant."""
    with acting(shared, "worker", ours.tenant_id) as connection:
        yield connection


def fill(factory: Factory) -> dict[str, Row]:
    """Make a bill by a plan, a quota, and what an agent and a user used."""
    plan = factory.row(PLANS)
    used = {
        "agent_id": factory.row("assistants.agents", slug="clerk")["id"],
        "user_id": factory.row("identity.users")["id"],
    }
    return {
        PLANS: plan,
        "billing.billing_records": factory.row("billing.billing_records", plan_id=plan["id"]),
        "billing.tenant_quotas": factory.row("billing.tenant_quotas"),
        "billing.usage_metrics": factory.row("billing.usage_metrics", **used),
    }


# tenants


# plans


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_everyone_sees_the_plans(shared: Database, ours: Factory, role: str) -> None:
    code = ours.row(PLANS)["code"]
    with acting(shared, role) as connection:
        query = "SELECT name FROM billing.subscription_plans WHERE code = %s"
        assert len(connection.execute(query, (code,)).fetchall()) == 1


def test_an_operator_makes_changes_and_withdraws_a_plan(shared: Database) -> None:
    with acting(shared, "operator") as operator:
        assert operator.execute(INTO_PLANS.encode()).rowcount == 1
        assert operator.execute("UPDATE billing.subscription_plans SET price = 20 WHERE name = 'Pro'").rowcount == 1
        assert operator.execute("DELETE FROM billing.subscription_plans WHERE name = 'Pro'").rowcount == 1


@pytest.mark.parametrize("role", ["worker", "system", "reader"])
@pytest.mark.parametrize(
    "statement",
    [INTO_PLANS, "UPDATE billing.subscription_plans SET price = 0", "DELETE FROM billing.subscription_plans"],
    ids=lambda statement: statement.split()[0],
)
def test_nobody_else_changes_plans(shared: Database, role: str, statement: str) -> None:
    with acting(shared, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_a_plan_stays_as_long_as_a_bill_names_it(shared: Database, ours: Factory) -> None:
    rows = fill(ours)
    plan = (rows[PLANS]["id"],)
    delete = b"DELETE FROM billing.subscription_plans WHERE id = %s"
    with acting(shared, "operator", ours.tenant_id) as operator:
        with pytest.raises(psycopg.IntegrityError, match="billing_records_plan_id_fkey"), operator.transaction():
            operator.execute(delete, plan)
        operator.execute("DELETE FROM billing.billing_records")
        assert operator.execute(delete, plan).rowcount == 1


def test_a_plan_that_another_tenants_bill_names_stays_too(shared: Database, theirs: Factory) -> None:
    plan = (fill(theirs)[PLANS]["id"],)
    with acting(shared, "operator") as operator, pytest.raises(psycopg.IntegrityError, match="plan_id_fkey"):
        operator.execute("DELETE FROM billing.subscription_plans WHERE id = %s", plan)


# usage


@pytest.mark.parametrize("after", ["-1 month", "0", "1 month", "2 months"])
def test_usage_stands_in_its_periods_month(ours: Factory, worker: Connection, after: str) -> None:
    assert worker.execute(USE.encode(), (ours.tenant_id, after, after)).fetchall() == [(True,)]


@pytest.mark.parametrize("after", ["-3 months", "4 months"])
def test_usage_of_a_month_that_is_not_there_is_refused(ours: Factory, worker: Connection, after: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        worker.execute(USE.encode(), (ours.tenant_id, after, after))


def test_what_a_chat_model_cost_is_booked_once_and_what_cost_nothing_is_not(ours: Factory, worker: Connection) -> None:
    persona_id = ours.row("assistants.personas")["id"]
    asked = Summary("Tea is steamed.", "chat", "small", "1", 200, 40, Decimal("0.0006"))
    nothing = Summary("Tea.", "extractive", None, "1")
    book(worker, ours.tenant_id, persona_id, [asked, nothing, replace(asked, method="extractive:refused")])
    for spent in ([nothing], [replace(asked, prompt_tokens=0, completion_tokens=0)], []):
        book(worker, ours.tenant_id, persona_id, spent)
    found = "SELECT tenant_id, metric_type, metric_value, cost, metadata->>'persona_id' FROM billing.usage_metrics"
    assert worker.execute(found).fetchall() == [
        (ours.tenant_id, "tokens", 480, Decimal("0.001200"), str(persona_id)),
    ]


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_a_month_is_looked_at_through_its_table_alone(shared: Database, ours: Factory, role: str) -> None:
    leaves = [row[0] for row in shared.rows(LEAVES)]
    assert len(leaves) == 4
    assert refusals(shared, role, LOOK, leaves, ours.tenant_id) == leaves


def test_usage_outlives_the_agent_and_the_user_that_it_names(ours: Factory, worker: Connection) -> None:
    used = fill(ours)["billing.usage_metrics"]
    worker.execute("DELETE FROM assistants.agents WHERE id = %s", (used["agent_id"],))
    worker.execute("DELETE FROM identity.users WHERE id = %s", (used["user_id"],))
    found = worker.execute("SELECT id, tenant_id, agent_id, user_id FROM billing.usage_metrics").fetchall()
    assert found == [(used["id"], ours.tenant_id, None, None)]


def test_usage_does_not_name_another_tenants_user(ours: Factory, theirs: Factory) -> None:
    user_id = theirs.row("identity.users")["id"]
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="usage_metrics_user_id_tenant_id_fkey"):
        ours.row("billing.usage_metrics", user_id=user_id)


def test_a_tenants_usage_and_bills_go_with_it(shared: Database, ours: Factory) -> None:
    fill(ours)
    let_go(ours.owner, ours.tenant_id)
    assert not any(ours.tenant_id in found for found in seen(shared, "system", TABLES).values())


# tokens


def talk_to_persona(factory: Factory) -> tuple[UUID, Row]:
    """Make a conversation of somebody with a user's voice persona; return that user."""
    persona = factory.row("assistants.voice_personas", user_id=factory.row("identity.users")["id"])
    talk = factory.row("assistants.conversations", persona_id=persona["id"], channel="telegram")
    return persona["user_id"], talk


def talk_to_agent(factory: Factory, **given: Any) -> Row:
    agent_id = factory.row("assistants.agents", slug=f"agent-{len(given)}")["id"]
    return factory.row("assistants.conversations", agent_id=agent_id, **given)


def say(factory: Factory, talk: Row, **given: Any) -> None:
    factory.row("assistants.messages", conversation_id=talk["id"], role="assistant", content="x", **given)


def tokens(connection: Connection) -> dict[UUID, tuple[int, Decimal]]:
    query = "SELECT user_id, total_tokens, estimated_cost_usd FROM billing.token_usage_by_user"
    return {row[0]: (row[1], row[2]) for row in connection.execute(query).fetchall()}


@pytest.mark.parametrize("role", ["worker", "system", "operator", "reader"])
def test_tokens_count_for_a_personas_user_and_for_who_talked_to_an_agent(
    shared: Database, ours: Factory, role: str
) -> None:
    owner_id, talk = talk_to_persona(ours)
    say(ours, talk, tokens_used={"prompt": 1000, "total": 1335})
    say(ours, talk, token_count=65)
    user_id = ours.row("identity.users")["id"]
    say(ours, talk_to_agent(ours, user_id=user_id), token_count=10)
    with acting(shared, role, ours.tenant_id) as connection:
        found = tokens(connection)
    expected = {owner_id: (1400, Decimal("0.028")), user_id: (10, Decimal("0.0002"))}
    assert {key: found[key] for key in expected} == expected
    assert role == "system" or found == expected


def test_what_a_model_reported_goes_before_what_was_counted(ours: Factory, worker: Connection) -> None:
    user_id, talk = talk_to_persona(ours)
    say(ours, talk, tokens_used={"total": 100}, token_count=7)
    say(ours, talk, tokens_used={"total": "many"}, token_count=5)
    assert tokens(worker)[user_id][0] == 105


@pytest.mark.parametrize("total", [1e30, -5e9, 1e12 + 1])
def test_what_is_no_number_of_tokens_is_not_taken_for_one(ours: Factory, worker: Connection, total: float) -> None:
    user_id, talk = talk_to_persona(ours)
    say(ours, talk, tokens_used={"total": total}, token_count=7)
    say(ours, talk, tokens_used={"total": 1e12})
    assert tokens(worker)[user_id][0] == 10**12 + 7


def test_what_counts_no_tokens_is_left_out(ours: Factory, worker: Connection) -> None:
    _, talk = talk_to_persona(ours)
    say(ours, talk)
    say(ours, talk_to_agent(ours), token_count=10)
    assert tokens(worker) == {}


def test_tokens_of_more_than_thirty_days_ago_are_left_out(shared: Database, ours: Factory, worker: Connection) -> None:
    user_id, talk = talk_to_persona(ours)
    for days in (29, 31):
        moment = shared.value("SELECT now() - make_interval(days => %s)", (days,))
        shared.rows("SELECT ops.create_month('assistants.messages', %s)", (moment,))
        say(ours, talk, token_count=days, created_at=moment)
    assert tokens(worker) == {user_id: (29, Decimal("0.00058"))}


def test_tokens_of_another_tenant_are_not_told(shared: Database, ours: Factory, theirs: Factory) -> None:
    _, talk = talk_to_persona(theirs)
    say(theirs, talk, token_count=1)
    for role in ("worker", "operator", "reader"):
        with acting(shared, role, ours.tenant_id) as connection:
            assert tokens(connection) == {}
        with acting(shared, role) as connection:
            assert tokens(connection) == {}


def test_who_acts_for_a_user_is_told_that_users_tokens(shared: Database, ours: Factory) -> None:
    (user_id, talk), (_, other) = talk_to_persona(ours), talk_to_persona(ours)
    for each in (talk, other):
        say(ours, each, token_count=50)
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:
        assert tokens(worker) == {user_id: (50, Decimal("0.001"))}
