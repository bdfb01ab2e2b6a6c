"""Months that are over, with what they hold, and what is left of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from tests.support.database import Database
from tests.support.factory import Factory

HISTORY, EVENTS, RESULTS = "queue.tasks_history", "governance.governance_events", "governance.validation_results"
READ_HISTORY = "SELECT count(*) FROM queue.outbox_tasks"
OLD = "2020-02-03 00:00+00"
PAST = "SELECT leaf::text FROM ops.months() WHERE until < '2021-01-01' ORDER BY 1"
LAST = "SELECT leaf::text FROM ops.months() WHERE relation = %s::regclass ORDER BY since DESC LIMIT 1"
MISSING = "SELECT relation::text, since FROM ops.missing_months()"


def old_tasks(database: Database, count: int = 3, moment: str = OLD) -> None:
    """Write ended tasks of a month that is over."""
    database.rows("SELECT queue.create_month(%s::regclass, %s)", (HISTORY, moment))
    enqueue = (
        "INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id) "
        "SELECT 'old', '{}', identity.default_tenant_id() FROM generate_series(1, %s)"
    )
    database.rows(enqueue, (count,))
    end = "UPDATE queue.outbox_tasks SET status = 'cancelled', hold_reason = NULL, completed_at = %s WHERE "
    database.rows(end + "task_type = 'old' AND status = 'pending'", (moment,))


def old_events(database: Database, ours: Factory, count: int = 1) -> None:
    """Write events of a month that is over, each with a result; have them kept for a year."""
    for table in (EVENTS, RESULTS):
        database.rows("SELECT ops.create_month(%s::regclass, %s)", (table, OLD))
    for _ in range(count):
        event = ours.row(EVENTS, created_at=OLD, agent_session_id=ours.row("governance.agent_sessions")["id"])
        ours.row(RESULTS, event_id=event["id"], event_created_at=event["created_at"])
    database.rows("UPDATE ops.retention_policies SET age = '1 year' WHERE name = 'governance-events'")


def hold(database: Database, table: str, key: str) -> None:
    """Hold all that the default tenant has in a table."""
    schema, _, name = table.partition(".")
    database.rows(
        "INSERT INTO ops.retention_policies (name, tenant_id, table_schema, table_name, age_column, age, is_held, "
        "hold_reason) VALUES (%s, identity.default_tenant_id(), %s, %s, %s, '1 year', true, 'a court''s order')",
        (f"hold {uuid4()}", schema, name, key),
    )


@contextmanager
def reading(database: Database, query: str = READ_HISTORY) -> Iterator[None]:
    """A reader whose transaction stays open."""
    connection = database.connect("operator")
    with connection.transaction():
        connection.execute(query.encode())
        yield
