"""Registry, task definitions, outcomes, batches and messages: everything that needs no database."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.backoff import Backoff
from core.errors import PermanentError, RegistrationError, RetryableError, UnknownTaskTypeError
from db.leases import Ending, Rescheduling
from db.queries import Queries
from db.queue import Attempt, Claim
from pipelines.outcomes import Cancel, Done, Fail, Outcome, Retry, Snooze
from pipelines.payload import Payload
from pipelines.registry import Registry, load_registry
from pipelines.resources import Resources
from pipelines.task import RetryPolicy, Task
from tests.support.tasks import TASKS, Noop, Strict
from workers.attempts import Run, scrub
from workers.broker import messages_of
from workers.endings import ending_of, final
from workers.sizes import BatchSizes

TENANT, OTHER = uuid4(), uuid4()


def task_of(payload: type[Payload]) -> Task[Payload]:
    return Task(payload=payload, run=lambda context, payload: Done())


# ------------------------------------------------------------------------------------------------------- registry


def test_a_name_leads_to_its_task_and_so_does_an_alias() -> None:
    registry = Registry(TASKS)
    assert registry.get("test.strict") is registry.get("test.stern")
    assert registry.versions()["test.stern"] == registry.get("test.strict").payload.payload_version
    assert "test.stern" not in registry.names()
    assert registry.queues() == ["default", "strict"]


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(UnknownTaskTypeError, match=r"test\.noop"):
        Registry(TASKS).get("test.nobody")


def test_a_duplicate_is_refused_before_anything_is_registered() -> None:
    class Again(Payload):
        task_type = "test.again"
        aliases = ("test.noop",)

    registry = Registry([task_of(Noop)])
    with pytest.raises(RegistrationError, match=r"test\.noop"):
        registry.add([task_of(Strict), task_of(Again)])
    assert registry.names() == ["test.noop"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scope": "tenant"}, "scope='system'"),
        ({"batch_size": None}, "batch_size=1"),
        ({"batch_size": 2}, "batch_size=1"),
        ({"run": None, "run_batch": lambda items: []}, "takes run"),
    ],
)
def test_what_works_outside_of_transactions_is_the_systems_and_travels_alone(wrong: dict[str, Any], told: str) -> None:
    right: dict[str, Any] = {"run": lambda *_: Done(), "scope": "system", "outside": True, "batch_size": 1}
    assert Task(payload=Noop, **right).outside
    with pytest.raises(RegistrationError, match=told):
        Task(payload=Noop, **right | wrong)


def test_a_task_module_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `GREENROOM_TASK_MODULES=shop.tasks` does with the example of the documentation."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text(
        "from pipelines.outcomes import Done\nfrom pipelines.payload import Payload\nfrom pipelines.task import Task\n"
        "class Ship(Payload):\n    task_type = 'shop.ship'\n    order: int\n"
        "TASKS = [Task(payload=Ship, run=lambda context, payload: Done())]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_registry(["shop.tasks"], ours=()).names() == ["shop.ship"]
    sys.modules.pop("shop.tasks")


@pytest.mark.parametrize("name", ["core.mine", "pipelines.mine", "workers", "console.tasks"])
def test_a_module_name_that_clashes_with_ours_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="clashes"):
        load_registry([name], ours=())


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    (tmp_path / "empty_tasks.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name, reason in (
        ("broken_tasks", "ZeroDivisionError"),
        ("no_such_tasks", "No module"),
        ("empty_tasks", "no TASKS"),
    ):
        with pytest.raises(RegistrationError, match=rf"{name}.*{reason}"):
            load_registry([name], ours=())
    sys.modules.pop("empty_tasks")


def test_resources_are_made_once_and_closed_in_reverse() -> None:
    closed: list[str] = []

    class One:
        def close(self) -> None:
            closed.append(type(self).__name__)

    class Two(One):
        pass

    resources = Resources()
    resources.provide(One, One)
    resources.provide(Two, Two)
    assert resources.get(One) is resources.get(One)
    assert isinstance(resources.get(Two), Two)
    with pytest.raises(RegistrationError):
        resources.provide(One, One)
    with pytest.raises(RegistrationError):
        resources.get(int)
    resources.close()
    assert closed == ["Two", "One"]


@pytest.mark.parametrize(
    "wrong",
    [{}, {"batch_size": 0}, {"batch_size": 1001}, {"time_limit": timedelta(0)}, {"pending_limit": timedelta(0)}],
    ids=str,
)
def test_a_definition_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    run = {} if not wrong else {"run": lambda context, payload: Done()}
    with pytest.raises(RegistrationError, match=r"test\.noop"):
        Task(payload=Noop, **run, **wrong)  # type: ignore[arg-type]  # wrong on purpose


# ------------------------------------------------------------------------------------------------------- outcomes


def attempt(**changes: object) -> Attempt:
    values = {
        "task_id": uuid4(), "claim_number": 1, "number": 1, "max_attempts": 3, "snoozes": 0, "tenant_id": TENANT,
        "payload_json": "{}", "payload_version": 1, "trace_context": None, "waited": 0.0,
    }  # fmt: skip
    return Attempt(**(values | changes))  # type: ignore[arg-type]  # by name


POLICY = RetryPolicy(Backoff(base=8, factor=2, maximum=3600, jitter=0), longest=timedelta(hours=1))
TASK = Task(payload=Noop, run=lambda context, payload: Done(), retry=POLICY, max_snoozes=2)


@pytest.mark.parametrize(
    ("outcome", "changes", "status", "delay"),
    [
        (Done({"a": 1}), {}, "done", None),
        (Fail("x"), {}, "failed", None),
        (Cancel("x"), {}, "cancelled", None),
        (Retry("x"), {}, None, 8.0),
        (Retry("x"), {"number": 2}, None, 16.0),
        (Retry("x"), {"number": 3}, "failed", None),
        (Retry("x", timedelta(seconds=100)), {}, None, 100.0),
        (Retry("x", timedelta(seconds=1)), {}, None, 8.0),
        (Retry("x", timedelta(days=1)), {}, None, 3600.0),
        (Snooze(timedelta(seconds=5)), {}, None, 5.0),
        (Snooze(timedelta(seconds=-5)), {}, None, 0.0),
        (Snooze(timedelta(days=90)), {}, None, 604800.0),
        (Snooze(timedelta(seconds=5)), {"snoozes": 2}, "failed", None),
    ],
)
def test_what_an_outcome_means(
    outcome: Outcome, changes: dict[str, object], status: str | None, delay: float | None
) -> None:
    run = Run(attempt(**changes), outcome=outcome)
    run.outcome = final(TASK, run)
    ending = ending_of(TASK, run)
    if status:
        assert isinstance(ending, Ending)
        assert ending.status == status
    else:
        assert isinstance(ending, Rescheduling)
        assert ending.delay == delay
        assert ending.snooze is isinstance(outcome, Snooze)


def test_an_exception_is_an_outcome() -> None:
    assert TASK.outcome_of(ValueError("x")) == Retry("ValueError: x", None)
    assert TASK.outcome_of(PermanentError("x")) == Fail("PermanentError: x")
    later = RetryableError("x", retry_after=timedelta(minutes=1))
    assert TASK.outcome_of(later) == Retry("RetryableError: x", timedelta(minutes=1))


def test_each_outcome_has_its_word() -> None:
    outcomes: list[Outcome] = [Done(), Retry("x"), Snooze(timedelta()), Fail("x"), Cancel("x")]
    assert [outcome.word for outcome in outcomes] == ["done", "retry", "snooze", "fail", "cancel"]


def test_scrub_replaces_the_longest_first_and_nul() -> None:
    assert scrub("abcdefgh abcdef \0", {"abcdef", "abcdefgh"}) == "[payload] [payload] \ufffd"


# ------------------------------------------------------------------------------------------------------- batches


def test_batches_grow_and_shrink_with_what_was_measured() -> None:
    sizes = BatchSizes(1.0)
    assert sizes.next_size("a", 1000) == 1, "nothing is known yet"
    sizes.measured("a", 64, 0.064, handling=0.0)
    assert sizes.next_size("a", 10_000) == 1000
    for _ in range(30):
        sizes.measured("a", 1, 4.0, handling=0.0)
    assert sizes.next_size("a", 1000) == 1
    sizes.measured("b", 1, 10.0, handling=0.0)
    for _ in range(4):
        sizes.measured("b", 4, 0.004, handling=0.0)
    assert sizes.next_size("b", 100) > 30, "what the first task loaded is soon forgotten"
    assert sizes.next_size("b", 3) == 3


def test_tasks_whose_handlers_take_long_do_not_travel_together() -> None:
    sizes = BatchSizes(1.0)
    assert sizes.travel_size("a", 250) == 1, "nothing is known yet"
    sizes.measured("statements", 100, 0.1, handling=0.001)
    assert sizes.travel_size("statements", 1000) == 128, "a quarter of a second, most of which they share"
    sizes.measured("waits", 100, 1.0, handling=1.0)
    assert sizes.travel_size("waits", 1000) == 4, "more would begin late, though a thread may be idle"
    sizes.measured("slow", 1, 0.06, handling=0.06)
    assert sizes.travel_size("slow", 1000) == 1


def claim(queue: str, task_type: str, tenant: UUID | None, size: int) -> Claim:
    return Claim(uuid4(), 1, queue, task_type, tenant, size, 0, 0.0)


def test_messages_hold_one_queue_type_tenant_and_at_most_their_batch() -> None:
    claims = [claim("q", "a", TENANT, 3) for _ in range(7)]
    claims += [
        claim("q", "a", OTHER, 3),
        claim("q", "b", TENANT, 3),
        claim("r", "a", TENANT, 3),
        claim("q", "a", TENANT, 1),
    ]
    messages = messages_of(claims)
    assert sorted(len(part) for _, part in messages) == [1, 1, 1, 1, 1, 3, 3]
    assert all(len({(c.queue, c.task_type, c.tenant_id) for c in part}) == 1 for _, part in messages)
    assert sorted(str(c.task_id) for _, part in messages for c in part) == sorted(str(c.task_id) for c in claims)
    for message, part in messages:
        assert (message.queue_name, message.actor_name) == (part[0].queue, part[0].task_type)
        assert message.args == ([[c.task_id.hex, 1] for c in part],)


def test_a_message_can_be_written_as_json() -> None:
    [(message, _)] = messages_of([claim("q", "a", None, 10)])
    assert type(message).decode(message.encode()).args == message.args


def test_the_loader_of_named_sql() -> None:
    queries = Queries("queue")
    assert {"claim", "rescue", "reclaim"} <= set(queries.names())
    assert "FOR UPDATE" in queries.text("claim").as_string(None)
    assert not queries.text("claim").as_string(None).endswith(";")
