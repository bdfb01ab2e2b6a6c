"""`counters.reconcile`: cached counts and times are made right, page by page, while others write.

An attempt looks at pages until one holds something wrong. That is mended in the transaction that ends the attempt, in
which the counting notes on its own row how far it came. What somebody is writing just then is left for the next task.
"""

from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from db import counters, standings
from db.counters import Counter
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.schedule import Schedule
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

# Pages of an attempt in which all is right: some seconds of reading, in as many transactions.
_PAGES = 20


class ReconcileCounters(Payload):
    """Count anew what is cached: all of it, or the named counters alone."""

    task_type: ClassVar[str] = "counters.reconcile"

    counters: tuple[Counter, ...] = ()


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a counting stands: `place` in its list of counters, behind the row `after`.

    `looked_at` counts rows, `mended` those of them that were wrong, by counter, `busy` those that were wrong and left.
    """

    place: int = 0
    after: str = standings.FIRST
    looked_at: int = 0
    mended: dict[str, int] = field(default_factory=dict)
    busy: int = 0

    def behind(self, page: counters.Page) -> "_Standing":
        """Return where it stands once a page was looked at."""
        if page.last is None:
            return replace(self, place=self.place + 1, after=standings.FIRST)
        return replace(self, after=str(page.last), looked_at=self.looked_at + page.size)

    def counting(self, counter: Counter, mended: counters.Mended) -> "_Standing":
        """Return where it stands once a page was mended."""
        rows = self.mended.get(counter, 0) + mended.rows
        return replace(self, mended=self.mended | {counter.value: rows}, busy=self.busy + mended.busy)


def reconcile(context: TaskContext, payload: ReconcileCounters) -> Outcome:
    """Look at the next pages, and mend what is wrong in the last; done behind the last counter's."""
    chosen = [counter for counter in Counter if counter in (payload.counters or Counter)]
    with context.read() as transaction:
        now = _Standing(**standings.read(transaction.connection, context.task_id, "counting"))
    context.progress(now.place / len(chosen), f"{now.looked_at:,} rows")
    page = counters.Page(0, None, [])
    for _ in range(_PAGES):
        if now.place == len(chosen):
            mended = {counter.value: now.mended.get(counter, 0) for counter in chosen}
            return Done({"looked_at": now.looked_at, "mended": mended, "busy": now.busy})
        counter = chosen[now.place]
        with context.read() as transaction:
            page = counters.look(transaction.connection, counter, UUID(now.after))
        now = now.behind(page)
        if page.wrong:
            break

    def apply(transaction: Transaction) -> None:
        mended = counters.mend(transaction.connection, counter, page.wrong)
        standings.note(transaction.connection, context.task_id, "counting", asdict(now.counting(counter, mended)))

    return Snooze(timedelta(0), apply)


SCHEDULES = (
    Schedule(
        name="counters",
        payload=ReconcileCounters(),
        cron="40 3 * * *",
        jitter=timedelta(minutes=5),
        design="004",
        description="Counts anew what is cached, and mends what is wrong.",
    ),
)
TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=ReconcileCounters,
        run=reconcile,
        scope="system",
        batch_size=1,
        max_snoozes=UNCOUNTED,
    ),
)
