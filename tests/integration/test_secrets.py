"""Secrets of tenants: written under their names, opened by their row alone, put under a new key while both hold."""

import base64
import os
from collections.abc import Sequence
from uuid import UUID

import pytest

from core.errors import NotFoundError, PermanentError
from db.connection import bind_tenant
from db.vault import SecretName, count_by_key, reseal, under
from pipelines.enqueue import enqueue
from pipelines.registry import Registry
from pipelines.resources import Resources
from pipelines.vault import rotation
from pipelines.vault.cipher import Cipher
from pipelines.vault.rotation import TASKS, RotateKeys
from pipelines.vault.secrets import put_secret, read_secret
from tests.support.database import Database
from tests.support.engine import publish
from tests.support.factory import Factory
from workers.testing import drain

TENANT = UUID("00000000-0000-7000-8000-000000000001")
OLD, NEW = (base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in range(2))
NAME = SecretName(TENANT, "llm_provider_key", "openai")
COPY = """UPDATE vault.secrets
SET encrypted_value = (SELECT encrypted_value FROM vault.secrets WHERE key_name = 'openai')"""


def test_a_secret_is_written_once_for_its_name_and_read_again(database: Database) -> None:
    worker, cipher = database.connect("worker"), Cipher([NEW])
    with worker.transaction():
        bind_tenant(worker, TENANT)
        for value in ("sk-first", "sk-second"):
            put_secret(worker, cipher, NAME, value)
        assert read_secret(worker, cipher, NAME) == "sk-second"
        with pytest.raises(NotFoundError, match="no secret elsewhere"):
            read_secret(worker, cipher, SecretName(TENANT, "other", "elsewhere"))
    [(stored, key_id)] = database.rows("SELECT encrypted_value, key_id FROM vault.secrets")
    assert key_id == cipher.key_id
    assert "sk-" not in base64.b64decode(stored).decode("latin-1")


def test_a_value_that_was_copied_to_another_row_does_not_open(database: Database) -> None:
    worker, cipher = database.connect("worker"), Cipher([NEW])
    other = SecretName(TENANT, "llm_provider_key", "anthropic")
    with worker.transaction():
        bind_tenant(worker, TENANT)
        put_secret(worker, cipher, NAME, "one")
        put_secret(worker, cipher, other, "two")
    database.rows(COPY)
    with worker.transaction():
        bind_tenant(worker, TENANT)
        with pytest.raises(PermanentError, match="does not open"):
            read_secret(worker, cipher, other)
        assert read_secret(worker, cipher, NAME) == "one"


def test_the_system_role_sees_what_is_under_which_key(database: Database) -> None:
    worker, system = database.connect("worker"), database.connect("system")
    old, both = Cipher([OLD]), Cipher([NEW, OLD])
    with worker.transaction():
        bind_tenant(worker, TENANT)
        put_secret(worker, old, NAME, "one")
    with system.transaction():
        assert count_by_key(system) == {old.key_id: 1}
        assert [stored.tenant_id for stored in under(system, both.key_ids[1:], 10)] == [TENANT]
        assert under(system, [both.key_id], 10) == []


def test_a_value_that_somebody_wrote_meanwhile_is_not_overwritten(database: Database) -> None:
    worker, system = database.connect("worker"), database.connect("system")
    old, both = Cipher([OLD]), Cipher([NEW, OLD])
    with worker.transaction():
        bind_tenant(worker, TENANT)
        put_secret(worker, old, NAME, "one")
    with system.transaction():
        before = under(system, [old.key_id], 10)
    with worker.transaction():
        bind_tenant(worker, TENANT)
        put_secret(worker, both, NAME, "two")
    with system.transaction():
        assert reseal(system, before, ["x" * 40], both.key_id) == 0
    with worker.transaction():
        bind_tenant(worker, TENANT)
        assert read_secret(worker, both, NAME) == "two"


def rotated(database: Database, *keys: str) -> str:
    """Run a rotation to its end; return how it ended."""
    registry = Registry(TASKS)
    publish(database, registry)
    resources = Resources()
    resources.provide(Cipher, lambda: Cipher(keys))
    task_id = enqueue(database.connect(), RotateKeys())
    drain(database, registry, resources=resources)
    row = database.rows("SELECT status, result, last_error FROM queue.tasks_history WHERE id = %s", (task_id,))
    [(status, result, error)] = row
    return f"{status} {result or error}"


def test_a_rotation_puts_all_under_the_first_key(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_PAGE", 2)
    worker, old, both = database.connect("worker"), Cipher([OLD]), Cipher([NEW, OLD])
    names = [SecretName(TENANT, "other", f"secret {n}") for n in range(5)]
    with worker.transaction():
        bind_tenant(worker, TENANT)
        for name in names:
            put_secret(worker, old, name, f"value of {name.key_name}")
    assert rotated(database, NEW, OLD) == "done {'under_first_key': 5}"
    with worker.transaction():
        bind_tenant(worker, TENANT)
        assert count_by_key(worker) == {both.key_id: 5}
        found = [read_secret(worker, Cipher([NEW]), name) for name in names]
    assert found == [f"value of {name.key_name}" for name in names]
    assert rotated(database, NEW) == "done {'under_first_key': 5}"


def test_a_rotation_without_a_key_that_is_needed_fails_and_says_which(database: Database) -> None:
    worker, old = database.connect("worker"), Cipher([OLD])
    with worker.transaction():
        bind_tenant(worker, TENANT)
        put_secret(worker, old, NAME, "one")
    assert rotated(database, NEW) == f"failed GREENROOM_ENCRYPTION_KEYS lacks keys: 1 under {old.key_id}"


def sealed(database: Database, names: Sequence[SecretName]) -> list[UUID]:
    """Write secrets under the old key; return the ids of their rows."""
    worker = database.connect("worker")
    with worker.transaction():
        bind_tenant(worker, TENANT)
        for name in names:
            put_secret(worker, Cipher([OLD]), name, name.key_name)
    return [row[0] for row in database.rows("SELECT id FROM vault.secrets ORDER BY id")]


def numbered(count: int) -> list[SecretName]:
    return [SecretName(TENANT, "other", f"secret {number}") for number in range(count)]


def test_a_rotation_leaves_what_does_not_open_and_says_where_it_stands(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a page of them, in front of all others and of none, and in both tables."""
    monkeypatch.setattr(rotation, "_PAGE", 2)
    ids = sealed(database, numbered(9))
    spoiled = [*ids[:5], ids[7]]
    database.rows("UPDATE vault.secrets SET encrypted_value = repeat('A', 60) WHERE id = ANY (%s)", (spoiled,))
    key = Factory(database.connect(), TENANT).row("vault.provider_keys", key_id=Cipher([OLD]).key_id)["id"]

    told = rotated(database, NEW, OLD)

    assert told == (
        "failed values do not open, since they were changed or moved there: "
        f"1 of vault.provider_keys ({key}), 6 of vault.secrets ({', '.join(map(str, spoiled))})"
    )
    turned = "SELECT id FROM vault.secrets WHERE key_id = %s ORDER BY id"
    assert database.rows(turned, (Cipher([NEW]).key_id,)) == [(ids[5],), (ids[6],), (ids[8],)]


def test_a_rotation_that_failed_takes_up_what_was_mended(database: Database) -> None:
    [moved, _] = sealed(database, numbered(2))
    before = database.value("SELECT encrypted_value FROM vault.secrets WHERE id = %s", (moved,))
    change = "UPDATE vault.secrets SET encrypted_value = %s WHERE id = %s"
    database.rows(change, ("A" * 60, moved))
    assert rotated(database, NEW, OLD).endswith(f"moved there: 1 of vault.secrets ({moved})")
    database.rows(change, (before, moved))
    assert rotated(database, NEW, OLD) == "done {'under_first_key': 2}"


def test_a_rotation_names_some_of_many_that_do_not_open(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_NAMED", 2)
    ids = sealed(database, numbered(5))
    database.rows("UPDATE vault.secrets SET encrypted_value = repeat('A', 60)")
    told = rotated(database, NEW, OLD)
    assert told.endswith(f": 5 of vault.secrets ({ids[0]}, {ids[1]}, 3 more)")


def test_pages_of_what_stands_under_a_key_go_on_behind_each_other(database: Database) -> None:
    """By id, and by table where two rows have one."""
    [row_id] = sealed(database, numbered(1))
    key_id = Cipher([OLD]).key_id
    Factory(database.connect(), TENANT).row("vault.provider_keys", id=row_id, key_id=key_id)
    system = database.connect("system")
    first = under(system, [key_id], 1)
    second = under(system, [key_id], 1, first[0])
    assert [stored.table for stored in (*first, *second)] == ["vault.provider_keys", "vault.secrets"]
    assert under(system, [key_id], 1, second[0]) == []
