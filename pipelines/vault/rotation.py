"""`vault.rotate`: what is encrypted comes under the ring's first key, page by page, while both keys hold.

To change keys: put the new one in front of GREENROOM_ENCRYPTION_KEYS, start anew, enqueue a rotation, and take the old
one away when the task is done. A value that is written meanwhile is under the new key already, or is taken next time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from core.errors import PermanentError
from core.settings import Settings
from db import vault
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.task import UNCOUNTED, Task, TaskContext
from pipelines.transaction import Transaction
from pipelines.vault.cipher import Cipher, Place, Sealed

_PAGE = 500
# Of the values that do not open, so many are named in a table: an error has its length.
_NAMED = 20


class RotateKeys(Payload):
    """Put each encrypted value under the first key of the ring."""

    task_type: ClassVar[str] = "vault.rotate"


@dataclass
class _Found:
    """What stands under older keys: values with their texts under the first one, and values that do not open."""

    resealed: list[tuple[vault.Stored, str]] = field(default_factory=list)
    broken: list[vault.Stored] = field(default_factory=list)


def rotate(context: TaskContext, payload: RotateKeys) -> Outcome:
    """Take the next page; fails, when all others are done, where values do not open or the ring lacks their key."""
    cipher = context.resources.get(Cipher)
    with context.read() as transaction:
        counts = vault.count_by_key(transaction.connection)
    found = _look(context, cipher)
    if not found.resealed:
        wrong = [*_unopened(found.broken), *_lost(counts, cipher)]
        return Fail("; ".join(wrong)) if wrong else Done({"under_first_key": counts.get(cipher.key_id, 0)})
    context.progress(counts.get(cipher.key_id, 0) / sum(counts.values()), f"{len(found.resealed)} values more")
    kept = [stored for stored, _ in found.resealed]

    def apply(transaction: Transaction) -> None:
        vault.reseal(transaction.connection, kept, [text for _, text in found.resealed], cipher.key_id)

    return Snooze(timedelta(0), apply)


def _look(context: TaskContext, cipher: Cipher) -> _Found:
    """Go through what stands under older keys, page by page, up to a page of which something opens.

    Begins at the first each time, past those that do not open: a replay finds what was mended since.
    """
    found, after = _Found(), None
    while not found.resealed:
        with context.read() as transaction:
            page = vault.under(transaction.connection, cipher.key_ids[1:], _PAGE, after)
        if not page:
            break
        for stored in page:
            try:
                found.resealed.append(_resealed(cipher, stored))
            except PermanentError:
                found.broken.append(stored)
        after = page[-1]
    return found


def _unopened(broken: Sequence[vault.Stored]) -> Iterator[str]:
    """Say which values do not open, by table and id."""
    told = []
    for table in sorted({stored.table for stored in broken}):
        ids = [str(stored.id) for stored in broken if stored.table == table]
        more = [f"{len(ids) - _NAMED} more"] if len(ids) > _NAMED else []
        told.append(f"{len(ids)} of {table} ({', '.join([*ids[:_NAMED], *more])})")
    if told:
        yield f"values do not open, since they were changed or moved there: {', '.join(told)}"


def _lost(counts: Mapping[str, int], cipher: Cipher) -> Iterator[str]:
    """Say what is under keys that the ring lacks."""
    lost = {key_id: count for key_id, count in counts.items() if key_id not in cipher.key_ids}
    if lost:
        told = ", ".join(f"{count} under {key_id}" for key_id, count in sorted(lost.items()))
        yield f"GREENROOM_ENCRYPTION_KEYS lacks keys: {told}"


def _resealed(cipher: Cipher, stored: vault.Stored) -> tuple[vault.Stored, str]:
    place = Place(stored.table, stored.tenant_id, stored.id)
    return stored, cipher.seal(cipher.open(Sealed(stored.text, stored.key_id), place), place).text


TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=RotateKeys,
        run=rotate,
        scope="system",
        batch_size=1,
        time_limit=timedelta(minutes=1),
        max_snoozes=UNCOUNTED,
    ),
)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how the cipher is made, at its first use."""
    keys = [key.get_secret_value() for key in settings.encryption.keys]
    resources.provide(Cipher, lambda: Cipher(keys))
