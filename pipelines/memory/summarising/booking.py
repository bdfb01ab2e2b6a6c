"""What summaries cost, booked to their tenant."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from db import usage
from db.connection import Connection
from pipelines.memory.summarising.base import Summary

METRIC = "tokens"


def book(connection: Connection, tenant_id: UUID, persona_id: UUID, summaries: Sequence[Summary]) -> None:
    """Write down the tokens of the chat model that was asked, whatever became of its answers; nothing without one.

    In the transaction that writes the summaries, bound to the tenant.
    """
    asked = [summary for summary in summaries if summary.model is not None]
    read, written = sum(each.prompt_tokens for each in asked), sum(each.completion_tokens for each in asked)
    if not read + written:
        return
    told = {
        "task_type": "memory.curate",
        "persona_id": str(persona_id),
        "model": asked[0].model,
        "prompt_tokens": read,
        "completion_tokens": written,
    }
    cost = sum((each.cost for each in asked), Decimal(0))
    usage.record(connection, tenant_id, METRIC, read + written, cost=cost, metadata=told)
