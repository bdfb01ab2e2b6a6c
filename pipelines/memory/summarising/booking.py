"""What a summary cost, booked to its tenant."""

from uuid import UUID

from db import usage
from db.connection import Connection
from pipelines.memory.summarising.base import Summary

METRIC = "tokens"


def book(connection: Connection, tenant_id: UUID, persona_id: UUID, summary: Summary) -> None:
    """Write down the tokens of the chat model that was asked, whatever became of its answer; nothing without one.

    In the transaction that writes the summary, bound to the tenant.
    """
    tokens = summary.prompt_tokens + summary.completion_tokens
    if summary.model is None or not tokens:
        return
    told = {
        "task_type": "memory.curate",
        "persona_id": str(persona_id),
        "model": summary.model,
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
    }
    usage.record(connection, tenant_id, METRIC, tokens, cost=summary.cost, metadata=told)
