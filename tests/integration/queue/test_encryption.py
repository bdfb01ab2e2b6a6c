"""Payload fields that stand encrypted: in Postgres a token, in the handler the value, in no error either."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet

from core.errors import InvalidOptionsError, PermanentError, RegistrationError, SettingsError
from core.settings import load_settings
from pipelines.batches import open_batch
from pipelines.enqueue import enqueue, enqueue_fields, enqueue_many
from pipelines.keyring import KeyRing
from pipelines.outcomes import Done, Outcome
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from tests.support.database import Database
from tests.support.engine import Line
from workers.processes import keyring_of

KEY = Fernet.generate_key().decode()
WORD = "open sesame"


class Login(Payload):
    """Logs in somewhere; `forward` enqueues the same once more."""

    task_type = "test.login"
    encrypted_fields = ("password", "extra")

    user: str
    password: str
    extra: dict[str, int] | None = None
    forward: bool = False


def line_of(database: Database, run: Any, keyring: KeyRing | None) -> Line:
    return Line(database, Registry([Task(payload=Login, run=run, max_attempts=1)]), keyring=keyring)


def stored(database: Database) -> dict[str, Any]:
    found: dict[str, Any] = database.value("SELECT payload FROM queue.outbox_tasks ORDER BY created_at DESC LIMIT 1")
    return found


def test_postgres_holds_a_token_and_the_handler_gets_the_value(database: Database) -> None:
    seen: list[Login] = []

    def run(context: TaskContext, payload: Login) -> Outcome:
        seen.append(payload)
        again = payload.model_copy(update={"forward": False, "extra": None})

        def apply(transaction: Transaction) -> None:
            if payload.forward:
                transaction.enqueue(again)

        return Done(apply=apply)

    ring = KeyRing([KEY])
    line = line_of(database, run, ring)
    given = Login(user="ada", password=WORD, extra={"pin": 1234}, forward=True)
    task_id = enqueue(database.connect("producer"), given, keyring=ring)

    kept = stored(database)
    assert WORD not in json.dumps(kept)
    assert kept["user"] == "ada"
    assert kept["password"].keys() == kept["extra"].keys() == {"encrypted"}
    line.run_once()
    assert seen == [given]
    assert line.task(task_id)["status"] == "done"
    assert stored(database)["password"].keys() == {"encrypted"}, "the handler's own task too"
    line.run_once()
    assert [payload.password for payload in seen] == [WORD, WORD]
    line.close()


def test_an_error_repeats_nothing_of_it(database: Database) -> None:
    def run(context: TaskContext, payload: Login) -> Outcome:
        raise RuntimeError(f"{payload.user}: no entry with {payload.password}")

    ring = KeyRing([KEY])
    line = line_of(database, run, ring)
    task_id = enqueue(database.connect("producer"), Login(user="x", password=WORD), keyring=ring)
    line.run_once()
    assert line.task(task_id)["last_error"] == "RuntimeError: x: no entry with [payload]"
    line.close()


def test_keys_change_by_a_new_one_in_front(database: Database) -> None:
    line = line_of(
        database, lambda context, payload: Done(payload.password), KeyRing([Fernet.generate_key().decode(), KEY])
    )
    task_id = enqueue(database.connect("producer"), Login(user="x", password=WORD), keyring=KeyRing([KEY]))
    line.run_once()
    assert line.task(task_id)["result"] == WORD
    line.close()


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        (None, "set GREENROOM_ENCRYPTION_KEYS"),
        (KeyRing([Fernet.generate_key().decode()]), "no key of the ring opens the field password"),
    ],
    ids=["no ring", "another key"],
)
def test_a_worker_that_cannot_open_it_fails_the_task_and_says_why(
    database: Database, ring: KeyRing | None, reason: str
) -> None:
    line = line_of(database, lambda context, payload: Done(), ring)
    task_id = enqueue(database.connect("producer"), Login(user="x", password=WORD), keyring=KeyRing([KEY]))
    line.run_once()
    row = line.task(task_id)
    assert row["status"] == "failed"
    assert reason in row["last_error"]
    line.close()


def test_a_producer_without_a_ring_is_told(database: Database) -> None:
    line = line_of(database, lambda context, payload: Done(), None)
    producer = database.connect("producer")
    for call in (
        lambda: enqueue(producer, Login(user="x", password=WORD)),
        lambda: enqueue_many(producer, [Login(user="x", password=WORD)]),
    ):
        with pytest.raises(InvalidOptionsError, match=r"test\.login has encrypted fields") as caught:
            call()
        assert WORD not in str(caught.value)
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 0
    line.close()


def test_what_is_not_encrypted_is_refused_and_a_foreign_row_held(database: Database) -> None:
    line = line_of(database, lambda context, payload: Done(), KeyRing([KEY]))
    producer = database.connect("producer")
    fields = {"user": "x", "password": WORD}
    with pytest.raises(Exception, match="password") as caught:
        enqueue_fields(producer, "test.login", fields)
    assert WORD not in str(caught.value)
    producer.execute(
        "INSERT INTO queue.outbox_tasks (task_type, payload) VALUES ('test.login', %s)", (json.dumps(fields),)
    )
    assert "password" in database.value("SELECT hold_reason FROM queue.outbox_tasks")
    line.close()


def test_a_callback_of_a_batch_keeps_no_secrets(database: Database) -> None:
    with pytest.raises(InvalidOptionsError, match="on_done has encrypted fields"):
        open_batch(database.connect("producer"), "b", on_done=Login(user="x", password=WORD))


def test_a_token_opens_where_it_was_made_for_alone() -> None:
    ring = KeyRing([KEY])
    sealed = ring.seal("test.login", ("password",), {"password": WORD})
    assert ring.open("test.login", ("password",), sealed) == {"password": WORD}
    with pytest.raises(PermanentError, match="for another field or task type"):
        ring.open("test.other", ("password",), sealed)
    with pytest.raises(PermanentError, match="is not encrypted"):
        ring.open("test.login", ("password",), {"password": WORD})


def test_keys_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_ENCRYPTION_KEYS", f"{KEY},{Fernet.generate_key().decode()}")
    settings = load_settings(_env_file=None)
    assert KEY not in repr(settings)
    assert keyring_of(settings) is not None
    assert keyring_of(load_settings(_env_file=None, encryption={"keys": ""})) is None
    with pytest.raises(SettingsError, match="32 bytes in URL-safe base64"):
        keyring_of(load_settings(_env_file=None, encryption={"keys": "short"}))


def test_a_field_that_does_not_exist_cannot_be_encrypted() -> None:
    class Wrong(Payload):
        task_type = "test.wrong"
        encrypted_fields = ("passwort",)
        password: str

    with pytest.raises(RegistrationError, match="no field 'passwort' to encrypt"):
        Task(payload=Wrong, run=lambda context, payload: Done())
