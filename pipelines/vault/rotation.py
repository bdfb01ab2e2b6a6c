"""`vault.rotate`: what is encrypted comes under the ring's first key, page by page, while both keys hold.

To change keys: put the new one in front of GREENROOM_ENCRYPTION_KEYS, start anew, enqueue a rotation, and take the old
one away when the task is done. A value that is written meanwhile is under the new key already, or is taken next time.
"""

from datetime import timedelta
from typing import ClassVar

from core.errors import PermanentError
from core.settings import Settings
from db import vault
from pipelines.outcomes import Done, Fail, Outcome, Snooze
from pipelines.payload import Payload
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from pipelines.vault.cipher import Cipher, Place, Sealed

_PAGE = 500


class RotateKeys(Payload):
    """Put each encrypted value under the first key of the ring."""

    task_type: ClassVar[str] = "vault.rotate"


def rotate(context: TaskContext, payload: RotateKeys) -> Outcome:
    """Take the next page; fails, when all others are done, where a value is under a key that the ring lacks."""
    cipher = context.resources.get(Cipher)
    with context.read() as transaction:
        counts = vault.count_by_key(transaction.connection)
        page = vault.under(transaction.connection, cipher.key_ids[1:], _PAGE)
    lost = {key_id: count for key_id, count in counts.items() if key_id not in cipher.key_ids}
    if not page and lost:
        told = ", ".join(f"{count} under {key_id}" for key_id, count in sorted(lost.items()))
        return Fail(f"GREENROOM_ENCRYPTION_KEYS lacks keys: {told}")
    if not page:
        return Done({"under_first_key": counts.get(cipher.key_id, 0)})
    context.progress(counts.get(cipher.key_id, 0) / sum(counts.values()), f"{len(page)} values more")
    found, broken = [], None
    for stored in page:
        try:
            found.append(_resealed(cipher, stored))
        except PermanentError as error:
            broken = error
    if broken is not None and not found:
        return Fail(str(broken))
    kept = [stored for stored, _ in found]

    def apply(transaction: Transaction) -> None:
        vault.reseal(transaction.connection, kept, [text for _, text in found], cipher.key_id)

    return Snooze(timedelta(0), apply)


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
        max_snoozes=10_000_000,  # one a page
    ),
)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how the cipher is made, at its first use."""
    keys = [key.get_secret_value() for key in settings.encryption.keys]
    resources.provide(Cipher, lambda: Cipher(keys))
