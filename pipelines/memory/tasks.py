"""Task types of the memory pipeline: `memories.curate`, which fans out, and `memory.curate`."""

from datetime import timedelta
from uuid import UUID

from core.settings import Settings
from db import memory, standings
from pipelines.documents.embedders import Embedders, Models
from pipelines.documents.payloads import EMBEDDING_QUEUE
from pipelines.memory.curate import Curation, curate
from pipelines.memory.grouping import Bounds
from pipelines.memory.payloads import CurateMemories, CurateMemory
from pipelines.memory.summarising.summarisers import Summarisers
from pipelines.outcomes import Done, Outcome, Snooze
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction

_PAGE = 1000


def curate_all(context: TaskContext, payload: CurateMemories) -> Outcome:
    """Enqueue the curation of the next personas that have something due; done behind the last one."""
    with context.read() as transaction:
        standing = standings.read(transaction.connection, context.task_id, "curating")
        after, total = UUID(standing.get("after", standings.FIRST)), standing.get("personas", 0)
        found = memory.due_personas(transaction.connection, after, _PAGE)
    active = [persona for persona in found if persona.is_active]
    total += len(active)

    def apply(transaction: Transaction) -> None:
        memory.enqueue(transaction.connection, CurateMemory.task_type, active)
        if len(found) == _PAGE:
            reached = {"after": str(found[-1].id), "personas": total}
            standings.note(transaction.connection, context.task_id, "curating", reached)

    return Snooze(timedelta(0), apply) if len(found) == _PAGE else Done({"personas": total}, apply)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how chunks are grouped, and who sums them up."""
    told = settings.memory
    bounds = Bounds(similarity=told.similarity, same=told.same, sources=told.sources, tokens=told.tokens)
    resources.provide(Curation, lambda: Curation(told.page, told.nearest, bounds))
    resources.provide(Summarisers, lambda: Summarisers(resources.get(Models), resources.get(Embedders), told))


TASKS: tuple[AnyTask, ...] = (
    Task(payload=CurateMemories, run=curate_all, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
    # Where the model is: it sums up and embeds in the same process. Behind all that somebody waits for.
    Task(
        payload=CurateMemory,
        run=curate,
        queue=EMBEDDING_QUEUE,
        priority=-20,
        batch_size=1,
        time_limit=timedelta(minutes=15),
        max_snoozes=UNCOUNTED,
    ),
)
SCHEDULES = (
    Schedule(
        name="memories",
        payload=CurateMemories(),
        cron="10 2 * * *",
        jitter=timedelta(minutes=10),
        design="000",
        description="Condenses what personas have learnt since the night before.",
    ),
)
