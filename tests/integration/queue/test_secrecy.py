"""I7: what a payload says stands in no error, no traceback, no event and no message."""

import dataclasses

import pytest

from core import events
from pipelines.enqueue import enqueue
from pipelines.outcomes import Cancel, Done, Fail, Outcome, Retry
from pipelines.payload import Payload
from pipelines.registry import Registry
from pipelines.task import Task, TaskContext
from pipelines.transaction import Transaction
from tests.support.database import Database
from tests.support.engine import Line

SECRET = "correct horse battery staple"


class Leak(Payload):
    """Its handler says its text wherever it can."""

    task_type = "test.leak"
    how: str
    text: str


def _leak(context: TaskContext, payload: Leak) -> Outcome:
    def insert(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO public.checked (word) VALUES (%s)", (payload.text,))

    if payload.how == "raise":
        raise RuntimeError(f"cannot work on {payload.text}")
    if payload.how == "repr":
        raise RuntimeError(f"cannot work on {payload!r}")
    if payload.how == "chain":
        raise RuntimeError("it failed") from ValueError(payload.text)
    reason = f"cannot work on {payload.text}"
    values: dict[str, Outcome] = {"retry": Retry(reason), "fail": Fail(reason), "cancel": Cancel(reason)}
    return values.get(payload.how, Done(apply=insert))


@pytest.mark.parametrize("text", [SECRET, SECRET * 5, f"{SECRET}\n'quoted'"], ids=["short", "long", "quoted"])
@pytest.mark.parametrize("how", ["raise", "repr", "chain", "retry", "fail", "cancel", "check", "not null"])
def test_a_payload_is_in_no_error(database: Database, recorded: list[events.Event], how: str, text: str) -> None:
    database.rows("CREATE TABLE public.checked (word text CHECK (length(word) < 3), other text)")
    database.rows("GRANT INSERT ON public.checked TO greenroom_worker")
    if how == "not null":
        database.rows("ALTER TABLE public.checked DROP CONSTRAINT checked_word_check, ALTER other SET NOT NULL")
    line = Line(database, Registry([Task(payload=Leak, run=_leak, max_attempts=1)]))
    task_id = enqueue(database.connect("producer"), Leak(how=how, text=text))
    line.run_once()
    row = line.task(task_id)
    assert row["status"] in {"failed", "cancelled"}
    said = [row["last_error"], *line.attempts(task_id), *map(dataclasses.asdict, recorded)]
    assert "correct horse" not in str(said)
    assert "failing row" not in str(said).lower()
    line.close()


def test_the_servers_log_holds_no_statement(database: Database) -> None:
    with database.connect() as connection:
        for name, wanted in (
            ("log_min_error_statement", "panic"),
            ("log_error_verbosity", "terse"),
            ("log_statement", "none"),
        ):
            assert connection.execute(f"SHOW {name}").fetchall() == [(wanted,)]
