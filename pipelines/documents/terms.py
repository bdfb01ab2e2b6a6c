"""Handler of `terms.count`, and who asks for it: searches weigh words by how rare they are in the tenant's chunks."""

from datetime import timedelta

from db import search
from pipelines.documents.payloads import CountTerms
from pipelines.outcomes import Done, Outcome
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

# Searches count the last changes themselves: the statistics may lag as long as those are few.
_PAUSE = timedelta(seconds=1)
_LATEST = timedelta(seconds=5)


def count_terms(context: TaskContext, payload: CountTerms) -> Outcome:
    """Add what changed to the tenant's statistics."""
    tenant_id = context.require_tenant_id()

    def apply(transaction: Transaction) -> None:
        if search.count_terms(transaction.connection, tenant_id) == search.COUNTED_AT_ONCE:
            enqueue_count(transaction)  # there is more of it

    return Done(apply=apply)


def enqueue_count(transaction: Transaction) -> None:
    """Have the tenant's terms counted soon, once for many changes. Others of the tenant wait here: call it last."""
    transaction.enqueue(
        CountTerms(),
        unique_key="greenroom:terms.count",
        unique_mode="debounce",
        debounce=_PAUSE,
        debounce_latest=_LATEST,
    )
