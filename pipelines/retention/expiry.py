"""`personas.expire` and `api_keys.expire`: what has a time to live is marked when it is over.

Nothing is deleted here: expired personas are kept for analytics (001), and a retention policy lets expired keys go. A
mark is for listings: neither opens anything from its time on, marked or not. Each page is a transaction, the end of
an attempt; whatever is killed, the next attempt goes on with what has no mark yet.
"""

from datetime import timedelta
from typing import ClassVar

from db import expiry, standings
from db.expiry import Kind
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.schedule import Schedule
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

_PAGE = 1000


class ExpirePersonas(Payload):
    """Mark generated personas whose time to live is over."""

    task_type: ClassVar[str] = "personas.expire"


class ExpireApiKeys(Payload):
    """Mark API keys whose time is over."""

    task_type: ClassVar[str] = "api_keys.expire"


def expire_personas(context: TaskContext, payload: ExpirePersonas) -> Outcome:
    """Mark the next personas; done behind the last one."""
    return _expire(context, "persona")


def expire_api_keys(context: TaskContext, payload: ExpireApiKeys) -> Outcome:
    """Mark the next API keys; done behind the last one."""
    return _expire(context, "api_key")


def _expire(context: TaskContext, kind: Kind) -> Outcome:
    with context.read() as transaction:
        before = standings.read(transaction.connection, context.task_id, "expiring").get("marked", 0)
        found = expiry.due(transaction.connection, kind, _PAGE)
    is_last = len(found) < _PAGE
    marked = {"marked": before + len(found)}

    def apply(transaction: Transaction) -> None:
        expiry.mark(transaction.connection, kind, found)
        if not is_last:
            standings.note(transaction.connection, context.task_id, "expiring", marked)

    return Done(marked, apply) if is_last else Snooze(timedelta(0), apply)


TASKS: tuple[AnyTask, ...] = (
    Task(payload=ExpirePersonas, run=expire_personas, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
    Task(payload=ExpireApiKeys, run=expire_api_keys, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
)
SCHEDULES = (
    Schedule(
        name="personas-expire",
        payload=ExpirePersonas(),
        cron="15 * * * *",
        design="001",
        description="Marks generated personas whose time to live is over.",
    ),
    Schedule(
        name="api-keys-expire",
        payload=ExpireApiKeys(),
        cron="25 * * * *",
        design="004",
        description="Marks API keys whose time is over.",
    ),
)
