"""N workers on one queue: claims and takes are disjoint; doubled, late and old messages do nothing."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from db import leases, queue
from db.leases import Ending
from db.queries import Queries
from db.queue import Attempt, Capacity, Claim
from pipelines.enqueue import enqueue, enqueue_many
from tests.support.database import Database
from tests.support.engine import Line, claim_from
from tests.support.tasks import Noop, Write

THREADS = 8
TASKS = 2_000
WANTED = Capacity("default", 1e9, ["test.noop", "test.write"], [1, 1], [100, 10])


def together(work: Callable[[int], object]) -> list[object]:
    """Run `work` in all threads at once."""
    barrier = threading.Barrier(THREADS)

    def start(number: int) -> object:
        barrier.wait(20)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


def test_eight_relays_claim_each_task_once(database: Database, line: Line) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(TASKS)])
    relays = [database.connect("relay") for _ in range(THREADS)]
    claimed: list[Claim] = []

    def work(number: int) -> None:
        while claims := claim_from(relays[number], WANTED, limit=37):
            claimed.extend(claims)

    together(work)
    again = claim_from(relays[0], WANTED, limit=TASKS)
    assert again == []
    assert len(claimed) == len({c.task_id for c in claimed}) == TASKS
    assert {c.claim_number for c in claimed} == {1}


def test_eight_workers_take_and_finish_each_task_once(database: Database, line: Line) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(TASKS)])
    claims = line.claim(TASKS)
    workers = [(database.connect("worker"), uuid4()) for _ in range(THREADS)]
    taken: list[Attempt] = []
    finished: Counter[UUID] = Counter()

    def work(number: int) -> None:
        connection, worker_id = workers[number]
        # Every worker is handed every message, as a broker that repeats itself would.
        for start in range(0, TASKS, 50):
            pairs = [(c.task_id, c.claim_number) for c in claims[start : start + 50]]
            with connection.transaction():
                attempts = leases.take(connection, pairs, worker_id=worker_id, lease_seconds=30, time_limit=60)
            taken.extend(attempts)
            finished.update(leases.finish(connection, [Ending(a, "done") for a in attempts], worker_id))

    together(work)
    assert len(taken) == len({a.task_id for a in taken}) == TASKS
    assert set(finished.values()) == {1}
    assert database.value("SELECT count(*) FROM queue.tasks_history WHERE status = 'done' AND attempts = 1") == TASKS
    assert database.value("SELECT count(*) FROM queue.tasks_live") == 0


def test_an_attempt_is_finished_by_one_of_eight(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    [attempt] = line.take(line.claim())
    connections = [database.connect("worker") for _ in range(THREADS)]
    ended = together(lambda n: leases.finish(connections[n], [Ending(attempt, "done")], line.process.id))
    assert ended.count({task_id}) == 1
    assert ended.count(set()) == THREADS - 1
    assert database.value("SELECT count(*) FROM queue.outbox_tasks") == 1


def test_eight_rescuers_rescue_each_task_once(database: Database, line: Line) -> None:
    enqueue_many(database.connect("producer"), [Noop(n=n) for n in range(500)])
    line.take(line.claim())
    leases.expire_leases(line.worker, line.process.id)
    relays = [database.connect("relay") for _ in range(THREADS)]
    rescued = together(lambda n: sum(queue.rescue(relays[n], 40)[0] for _ in range(13)))
    assert sum(map(int, map(str, rescued))) == 500
    assert database.value("SELECT count(*) FROM queue.attempts WHERE outcome = 'lost'") == 500


def test_a_doubled_message_does_nothing(effects: Database, line: Line) -> None:
    enqueue(effects.connect("producer"), Write(n=1))
    claims = line.claim()
    line.run(claims)
    line.run(claims)
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    assert effects.rows("SELECT status, attempts FROM queue.outbox_tasks") == [("done", 1)]


def test_a_message_whose_claim_was_taken_back_does_nothing(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Write(n=1))
    old = line.claim(claim_seconds=-1)
    assert queue.reclaim(line.relay, 10) == 1
    line.run(old)
    assert line.task(task_id)["attempts"] == 0
    new = line.claim()
    line.run(old)
    assert effects.rows("SELECT n FROM effects") == []
    line.run(new)
    assert effects.rows("SELECT n FROM effects") == [(1,)]
    assert line.task(task_id)["attempts"] == 1  # neither the claim that nobody took nor the old message cost one


def test_a_message_of_a_former_life_does_nothing(effects: Database, line: Line) -> None:
    task_id = enqueue(effects.connect("producer"), Write(n=1))
    [claim] = line.claim()
    [attempt] = line.take([claim])
    leases.finish(line.worker, [Ending(attempt, "failed", error="x")], line.process.id)
    [revived] = Queries("tasks").run(effects.connect("operator"), "replay", {"ids": [task_id], "until": None})
    assert revived[0] == task_id
    line.run([claim])
    assert line.task(task_id)["status"] == "pending"
    [again] = line.claim()
    assert again.claim_number > claim.claim_number


def test_claims_given_back_cost_nothing(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    [claim] = line.claim()
    assert queue.give_back(line.relay, [(claim.task_id, claim.claim_number)]) == 1
    assert queue.give_back(line.relay, [(claim.task_id, claim.claim_number)]) == 0
    row = line.task(task_id)
    assert (row["status"], row["attempts"], row["claimed_until"]) == ("pending", 0, None)
    assert line.run_once() == 1
    assert line.attempts(task_id) == []


def test_a_claim_given_back_with_a_delay_is_deferred(database: Database, line: Line) -> None:
    task_id = enqueue(database.connect("producer"), Noop())
    [claim] = line.claim()
    queue.give_back(line.relay, [(claim.task_id, claim.claim_number)], delay=60)
    assert line.claim() == []
    assert line.task(task_id)["is_due"] is False
    due_in = queue.look(line.relay).due_in
    assert due_in is not None
    assert 50 < due_in <= 60
