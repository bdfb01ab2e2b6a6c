"""`archive.erase`: who is erased goes from the archives too, part by part.

A part with rows of theirs is written anew without them, beside the old one; one transaction puts it in the old one's
place, and the old files are removed after that. Where new files will stand is noted before they are written, and which
are left over with the change itself: wherever the task is killed, the old part is whole or the new one is, and the next
attempt removes what is of neither. A folder that was noted as left over is never used again.

What is being archived when the task begins is waited for, since nobody knows yet whose it is. Rows that a hold speaks
of stay: the task fails at its end and names the hold.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from core.backoff import Backoff
from db import forgetting, standings
from db.forgetting import Kind, Part, Subject, Unwritten
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.retention.archive.manifest import folder_of
from pipelines.retention.archive.store import ArchiveStore
from pipelines.retention.archived_files import require_own
from pipelines.task import UNCOUNTED, RetryPolicy, Task, TaskContext
from pipelines.transaction import Transaction

_PATIENCE = timedelta(seconds=5)


class EraseArchives(Payload):
    """Erase somebody from the archives; a trigger enqueues it for whoever is deleted and has rows there."""

    task_type: ClassVar[str] = "archive.erase"

    kind: Kind
    id: UUID


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an erasure is: by ids of parts, and folders of the store; counts at last.

    `awaits` are the parts that were being written when it began, None before; `after` is the last part that was looked
    at; the next one's new files will stand in the folder that ends in `coming`; nothing names what is in `left_over`.
    """

    awaits: tuple[str, ...] | None = None
    after: str = standings.FIRST
    coming: str = ""
    left_over: tuple[str, ...] = ()
    archives: int = 0
    rows: int = 0
    emptied: int = 0
    holds: tuple[str, ...] = ()


def erase(context: TaskContext, payload: EraseArchives) -> Outcome:
    """Take the next part; fails at the end where a hold keeps rows."""
    return forget(context, Subject(payload.kind, payload.id))


def forget(context: TaskContext, subject: Subject) -> Outcome:
    """Erase somebody from the next part of an archive, as a step of a task that does nothing else then.

    Done, with counts, when nothing of them is left; Fail where a hold keeps some of it. How far it is stands on the
    task's own row, under a name of its own. Expects that the rows in the tables are gone, or nobody's to archive.
    """
    with context.read() as transaction:
        standing = Standing(**standings.read(transaction.connection, context.task_id, "forgetting"))
        unwritten = forgetting.unwritten(transaction.connection, subject)
        part = forgetting.next_part(transaction.connection, subject, UUID(standing.after))
        store = context.resources.get(ArchiveStore)
        if part is not None or standing.left_over or unwritten:
            require_own(transaction.connection, store)
    for folder in standing.left_over:
        store.clear(folder)
    standing = replace(standing, left_over=())
    if part is None and not (standing.awaits or unwritten):
        return _end(standing)
    if standing.awaits is None:
        awaits = tuple(str(each.id) for each in unwritten)
        return _noted(context, replace(standing, awaits=awaits, coming=str(uuid4())))
    if awaited := [each for each in unwritten if str(each.id) in standing.awaits]:
        return _await(context, standing, awaited)
    if part is None:
        return _end(standing)
    context.progress(0.5, f"{standing.archives} archives, {part.table} {part.month:%Y-%m} is next")
    if part.is_emptied:
        return Snooze(_PATIENCE, reason=f"its rows are being archived: {part.table} {part.month:%Y-%m}")
    return _rewrite(context, store, subject, part, standing)


def _end(standing: Standing) -> Outcome:
    counts = {"archives": standing.archives, "rows": standing.rows, "emptied": standing.emptied}
    if standing.holds:
        told = ", ".join(standing.holds)
        return Fail(f"archived rows are held by {told}: lift the hold, then replay the task; what is not held is gone")
    return Done(counts)


def _await(context: TaskContext, standing: Standing, awaited: list[Unwritten]) -> Outcome:
    """Forget a part that nobody goes on with; wait for those that somebody is writing."""
    for each in awaited:
        if not each.is_alive:
            folder = folder_of(each.table, each.month, each.part, each.id)
            return _discard(context, each.id, replace(standing, left_over=(folder,)))
    return Snooze(_PATIENCE, reason=f"an archive is being written: {awaited[0].table} {awaited[0].month:%Y-%m}")


def _discard(context: TaskContext, archive_id: UUID, reached: Standing) -> Outcome:
    def apply(transaction: Transaction) -> None:
        if forgetting.discard(transaction.connection, archive_id):
            _note(transaction, context.task_id, reached)

    return Snooze(timedelta(0), apply)


def _rewrite(context: TaskContext, store: ArchiveStore, subject: Subject, part: Part, standing: Standing) -> Outcome:
    """Write a part anew and put it in the place of the old one; where somebody was first, look at it again."""
    from pipelines.retention.archive.rewriting import rewrite  # pyarrow is for those who need it

    folder = folder_of(part.table, part.month, part.part, UUID(standing.coming))
    fresh = replace(standing, coming=str(uuid4()))
    if store.keys(folder):  # of an attempt that was killed
        return _noted(context, replace(fresh, left_over=(folder,)))
    anew = rewrite(context.read, store, part, subject, folder)
    holds = tuple(dict.fromkeys((*standing.holds, *anew.holds)))
    if anew.part is None:
        return _noted(context, replace(standing, after=str(part.id), holds=holds))
    done = replace(
        fresh,
        after=str(part.id),
        left_over=(part.manifest_key.rpartition("/")[0],),
        archives=standing.archives + 1,
        rows=standing.rows + anew.gone,
        emptied=standing.emptied + anew.emptied,
        holds=holds,
    )
    written = anew.part

    def apply(transaction: Transaction) -> None:
        is_swapped = forgetting.swap(transaction.connection, part, written, anew.subjects, anew.tables, anew.hold_state)
        _note(transaction, context.task_id, done if is_swapped else replace(fresh, left_over=(folder,)))

    return Snooze(timedelta(0), apply)


def _noted(context: TaskContext, standing: Standing) -> Outcome:
    return Snooze(timedelta(0), lambda applying: _note(applying, context.task_id, standing))


def _note(transaction: Transaction, task_id: UUID, standing: Standing) -> None:
    standings.note(transaction.connection, task_id, "forgetting", asdict(standing))


def erasing_task(payload: type[Payload], run: Callable[[TaskContext, Any], Outcome]) -> AnyTask:
    """Declare a task that erases somebody, page by page."""
    return Task(
        payload=payload,
        run=run,
        scope="system",
        batch_size=1,
        time_limit=timedelta(minutes=15),
        max_snoozes=UNCOUNTED,
        # Somebody's data is waited for: for two days, and soon again.
        max_attempts=100,
        retry=RetryPolicy(Backoff(base=1.0, maximum=1800.0, jitter=0.2)),
    )


TASKS = (erasing_task(EraseArchives, erase),)
