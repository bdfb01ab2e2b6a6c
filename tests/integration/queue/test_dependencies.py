"""Tasks that wait for tasks: they start when all parents have ended, end as their policy says; no race loses one."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from core.errors import InvalidOptionsError
from db import dependencies, tasks
from db.dependencies import FIRST_ID, Settled
from pipelines.enqueue import enqueue, enqueue_many
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Answer, Noop, Spawn


def settle_all(line: Line, limit: int = 1000) -> Settled:
    """Settle until nothing moves; return the sums."""
    total = Settled()
    while not (done := dependencies.settle(line.relay, limit)).is_idle:
        total = Settled(*(a + b for a, b in zip(total, done, strict=True)))
    return total


def run_all(line: Line) -> None:
    while line.run_once():
        pass


def statuses(line: Line, *ids: UUID) -> list[str]:
    return [line.task(task_id)["status"] for task_id in ids]


def failing(producer: Any) -> UUID:
    return enqueue(producer, Answer(outcome="fail"))


def cancelling(producer: Any) -> UUID:
    return enqueue(producer, Answer(outcome="cancel"))


def test_a_child_waits_for_all_its_parents(database: Database, effects: Database, line: Line) -> None:
    producer = database.connect("producer")
    first, second = enqueue(producer, Noop()), enqueue(producer, Noop(n=1))
    child = enqueue(producer, Noop(n=2), depends_on=[first, second])
    row = line.task(child)
    assert (row["status"], row["is_due"], row["is_waiting"]) == ("pending", False, True)
    settle_all(line)
    claims = line.claim()
    assert {c.task_id for c in claims} == {first, second}, "a waiting task is not claimed"
    line.run(claims[:1])
    settle_all(line)
    assert line.claim() == [], "one parent is not all"
    line.run(claims[1:])
    assert settle_all(line).started == 1
    run_all(line)
    assert statuses(line, child) == ["done"]
    assert database.rows("SELECT DISTINCT parent_status FROM queue.task_dependencies") == [("done",)]
    assert database.value("SELECT count(*) FROM queue.settlements") == 0


@pytest.mark.parametrize(
    ("parent", "policy", "ends"),
    [
        (failing, "fail", "failed"), (failing, "cancel", "cancelled"), (failing, "run", "done"),
        (cancelling, "fail", "failed"), (cancelling, "cancel", "cancelled"), (cancelling, "run", "done"),
    ],
)  # fmt: skip
def test_the_policy_says_what_becomes_of_a_child_whose_parent_was_not_done(
    database: Database, effects: Database, line: Line, parent: Callable[[Any], UUID], policy: Any, ends: str
) -> None:
    producer = database.connect("producer")
    above = parent(producer)
    child = enqueue(producer, Noop(), depends_on=[above], on_parent_failed=policy)
    grandchild = enqueue(producer, Noop(), depends_on=[child])
    for _ in range(3):
        run_all(line)
        settle_all(line)
    assert statuses(line, child) == [ends]
    assert statuses(line, grandchild) == ["done" if ends == "done" else "failed"], "the chain follows"
    if ends != "done":
        assert str(above) in line.task(child)["last_error"]


def test_a_failed_parent_ends_its_child_without_waiting_for_the_others(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    bad, slow = failing(producer), enqueue(producer, Noop(), queue="nobody")
    child = enqueue(producer, Noop(), depends_on=[bad, slow])
    run_all(line)
    assert settle_all(line).failed == 1
    assert statuses(line, child, slow) == ["failed", "pending"]


def test_a_parent_that_ended_before_is_found_in_history_and_one_that_left_it_is_unknown(
    database: Database, line: Line
) -> None:
    producer = database.connect("producer")
    ended, gone = enqueue_many(producer, [Noop(), Noop()])
    run_all(line)
    children = [enqueue(producer, Noop(), depends_on=[parent]) for parent in (ended, gone)]
    database.rows("DELETE FROM queue.tasks_history WHERE id = %s", (gone,))
    settle_all(line)
    assert statuses(line, children[1]) == ["failed"]
    assert "left history" in line.task(children[1])["last_error"]
    run_all(line)
    assert statuses(line, children[0]) == ["done"]


def test_a_producers_long_transaction_holds_up_no_parent_and_loses_no_child(database: Database, line: Line) -> None:
    parent = enqueue(database.connect("producer"), Noop())
    with psycopg.connect(database.url("producer")) as producer:
        child = enqueue(producer, Noop(), depends_on=[parent])
        run_all(line)  # would wait for the producer if a row were locked
        assert statuses(line, parent) == ["done"]
        settle_all(line)
    settle_all(line)
    run_all(line)
    assert statuses(line, child) == ["done"]


def test_a_parent_whose_end_is_not_committed_yet_is_looked_at_again(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    parent = enqueue(producer, Noop())
    child = enqueue(producer, Noop(), depends_on=[parent])
    with psycopg.connect(database.url("operator")) as ending:
        ending.execute("DELETE FROM queue.tasks_live WHERE id = %s", (parent,))
        assert dependencies.settle(line.relay, 1000).is_idle
        assert database.value("SELECT count(*) FROM queue.settlements") == 1
        ending.rollback()
    settle_all(line)
    assert line.task(parent)["is_watched"]
    run_all(line)
    settle_all(line)
    run_all(line)
    assert statuses(line, child) == ["done"]


def test_only_one_relay_settles_at_a_time(database: Database, line: Line) -> None:
    parent = enqueue(database.connect("producer"), Noop())
    enqueue(database.connect("producer"), Noop(), depends_on=[parent])
    other = database.connect("relay")
    with other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(7216335408822)")
        assert dependencies.settle(line.relay, 1000).is_idle
        assert dependencies.recheck(line.relay, FIRST_ID, 10) == (Settled(), FIRST_ID)
    assert not dependencies.settle(line.relay, 1000).is_idle


def test_a_waiting_task_that_was_overlooked_is_found_by_the_recheck(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    parents = [enqueue(producer, Noop()) for _ in range(2)]
    children = [enqueue(producer, Noop(), depends_on=[parent]) for parent in parents]
    settle_all(line)
    run_all(line)
    with psycopg.connect(database.url("operator")) as holder:
        holder.execute("SELECT FROM queue.tasks_live WHERE id = %s FOR UPDATE", (children[0],))
        assert settle_all(line).started == 1, "a row that is held is passed by"
        database.rows("UPDATE queue.task_dependencies SET parent_status = NULL WHERE child_id = %s", (children[0],))
        holder.rollback()
    assert settle_all(line).started == 0
    done, after = dependencies.recheck(line.relay, FIRST_ID, 10)
    assert done.settled == 1, "its parent is noted again"
    assert after == children[0]
    assert settle_all(line).started == 1
    assert dependencies.recheck(line.relay, after, 10) == (Settled(), FIRST_ID)


@pytest.mark.parametrize("limit", [300])
def test_a_thousand_parents_of_one_child_and_a_thousand_children_of_one_parent(
    database: Database, line: Line, limit: int
) -> None:
    producer = database.connect("producer")
    parents = enqueue_many(producer, [Noop(n=n) for n in range(1000)])
    child = enqueue(producer, Noop(), depends_on=parents)
    grandchildren = enqueue_many(producer, [Noop(n=n) for n in range(1000)], depends_on=[child])
    settle_all(line, limit)
    run_all(line)
    assert settle_all(line, limit).started == 1
    run_all(line)
    assert dependencies.settle(line.relay, limit).started == limit, "a statement is bounded, whatever hangs on a task"
    assert settle_all(line, limit).started == 1000 - limit
    run_all(line)
    assert set(statuses(line, child, *grandchildren[:3], grandchildren[-1])) == {"done"}


@pytest.mark.parametrize("case", ["nobody", "another tenant's"])
def test_a_parent_that_does_not_exist_is_refused(database: Database, line: Line, case: str) -> None:
    parent = uuid4()
    if case != "nobody":
        tenant = database.value("INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id")
        parent = enqueue(database.connect(), Noop(), tenant_id=tenant)
    with pytest.raises(InvalidOptionsError, match=f"does not exist: {parent}"):
        enqueue(database.connect("producer"), Noop(), depends_on=[parent])
    assert database.value("SELECT count(*) FROM queue.task_dependencies") == 0


def test_a_task_waits_neither_for_itself_nor_in_a_circle(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    top = enqueue(producer, Noop(), unique_key="k")
    below = enqueue(producer, Noop(), depends_on=[enqueue(producer, Noop(), depends_on=[top])])
    with pytest.raises(InvalidOptionsError, match=r"wait for itself$"):
        enqueue(producer, Noop(), unique_key="k", unique_mode="replace", depends_on=[top])
    with pytest.raises(InvalidOptionsError, match="in a circle"):
        enqueue(producer, Noop(), unique_key="k", unique_mode="replace", depends_on=[below])
    with pytest.raises(psycopg.errors.CheckViolation, match="nothing_waits_for_itself"):
        database.rows(
            "INSERT INTO queue.task_dependencies (child_id, parent_id, on_parent_failed) VALUES (%s, %s, 'run')",
            (top, top),
        )


@pytest.mark.parametrize(
    "options",
    [
        {"depends_on": "no list"}, {"depends_on": 5}, {"depends_on": ["no id"]}, {"on_parent_failed": "run"},
        {"depends_on": [], "on_parent_failed": "explode"}, {"batch_id": "no id"}, {"batch_id": UUID(int=7)},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused(database: Database, line: Line, options: Any) -> None:
    with pytest.raises(InvalidOptionsError):
        enqueue(database.connect("producer"), Noop(), **options)


def test_a_cancelled_child_stays_so_and_an_operator_may_start_one_at_once(database: Database, line: Line) -> None:
    producer, operator = database.connect("producer"), database.connect("operator")
    parent = enqueue(producer, Noop(), queue="nobody")
    cancelled, started = (enqueue(producer, Noop(), depends_on=[parent]) for _ in range(2))
    assert tasks.cancel(operator, cancelled, "not wanted")
    assert tasks.retry_now(operator, started)
    run_all(line)
    assert statuses(line, cancelled, started) == ["cancelled", "done"]


def test_a_replayed_child_waits_again_for_the_parent_that_failed(database: Database, line: Line) -> None:
    producer, operator = database.connect("producer"), database.connect("operator")
    parent = failing(producer)
    child = enqueue(producer, Noop(), depends_on=[parent])
    run_all(line)
    settle_all(line)
    assert tasks.replay(operator, [child]) == [child]
    assert line.task(child)["is_waiting"]
    settle_all(line)
    assert statuses(line, child) == ["failed"], "its parent is still failed"
    database.rows('UPDATE queue.tasks_history SET payload = \'{"outcome": "cancel"}\' WHERE id = %s', (parent,))
    database.rows("CREATE TABLE public.effects (n integer, note text)")
    database.rows("GRANT INSERT ON public.effects TO greenroom_worker")
    tasks.replay(operator, [parent, child])
    database.rows('UPDATE queue.tasks_live SET payload = \'{"outcome": "done"}\' WHERE id = %s', (parent,))
    settle_all(line)
    run_all(line)
    settle_all(line)
    run_all(line)
    assert statuses(line, parent, child) == ["done", "done"]


def test_a_handler_enqueues_what_waits_for_its_own_task(database: Database, effects: Database, line: Line) -> None:
    spawn = enqueue(database.connect("producer"), Spawn(count=3))
    child = enqueue(database.connect("producer"), Noop(n=9), depends_on=[spawn], metadata={"a": 1})
    for _ in range(2):
        run_all(line)
        settle_all(line)
    run_all(line)
    assert statuses(line, child) == ["done"]


def test_old_dependencies_are_forgotten(database: Database, line: Line) -> None:
    parent = enqueue(database.connect("producer"), Noop())
    enqueue(database.connect("producer"), Noop(), depends_on=[parent])
    run_all(line)
    settle_all(line)
    assert dependencies.forget(line.relay, 3600, 10) == 0
    assert dependencies.forget(line.relay, -60, 10) == 1


def test_the_graph_shows_what_is_above_and_below(database: Database, line: Line) -> None:
    producer = database.connect("producer")
    top = enqueue(producer, Noop())
    middle = enqueue(producer, Noop(), depends_on=[top])
    bottom = enqueue_many(producer, [Noop(n=n) for n in range(60)], depends_on=[middle], on_parent_failed="run")
    found = dependencies.graph(database.connect("operator"), middle, 50)
    assert [(n.level, n.id, n.status) for n in found.nodes if n.level < 0] == [(-1, top, "pending")]
    below = [n for n in found.nodes if n.level > 0]
    assert len(below) == 50
    assert {n.id for n in below} <= set(bottom)
    assert {(n.on_parent_failed, n.task_type) for n in below} == {("run", "test.noop")}
    assert (found.parents, found.children) == (1, 60)
