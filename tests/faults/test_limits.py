"""Limits under fire (I5): with three relays that are killed, as workers are, three run at once and never four."""

import os
import random
import sys

import pytest

from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.limited_tasks import PLACES, Limited
from tests.faults.rig import Rig
from tests.support.waiting import eventually

LIMIT, RELAYS, WORKERS = 3, 3, 2
_SET = "INSERT INTO queue.limits (kind, name, concurrency) VALUES (%s, %s, %s)"
_MODULE = "tests.faults.limited_tasks"


@pytest.mark.timeout(240)
def test_three_run_at_once_and_never_four(redis_rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    hold(redis_rig, capsys, runs=2, tasks=150, kills=2)


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_three_run_at_once_and_never_four_in_fifty_runs(redis_rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    hold(redis_rig, capsys, runs=50, tasks=1000, kills=3)


@pytest.mark.timeout(120)
def test_a_rate_holds_within_five_percent_with_three_relays(redis_rig: Rig) -> None:
    set_up(redis_rig)
    query = "INSERT INTO queue.limits (kind, name, rate, rate_seconds, burst) VALUES ('key', 'provider', 40, 1, 4)"
    redis_rig.database.rows(query)
    redis_rig.enqueue([Limited() for _ in range(404)])
    redis_rig.await_end(60)
    took = redis_rig.database.value(
        "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8 FROM queue.tasks_history"
    )
    assert took == pytest.approx(400 / 40, rel=0.05)


def hold(rig: Rig, capsys: pytest.CaptureFixture[str], *, runs: int, tasks: int, kills: int) -> None:
    """Run after run, by each kind of limit in turn; look after each at how many ran at once."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    with capsys.disabled():
        sys.stdout.write(f"\nlimits under fire: {runs} runs of {tasks} tasks, seed {seed}\n")
    draw = random.Random(seed)
    set_up(rig)
    kinds = [("queue", "default"), ("key", "provider"), ("task_type", Limited.task_type), ("tenant", "*")]
    for run in range(runs):
        rig.database.rows("DELETE FROM queue.limits")
        rig.database.rows(_SET, (*kinds[run % len(kinds)], LIMIT))
        rig.database.rows("TRUNCATE public.places")
        work_off(rig, tasks, kills, draw)
        [(most, started)] = rig.database.rows("SELECT max(place), count(*)::integer FROM public.places")
        assert most == LIMIT, f"run {run}: {most} at once, by the limit of {kinds[run % len(kinds)]}"
        assert started >= tasks
    assert violations(rig.database) == []


def set_up(rig: Rig) -> None:
    """Start the fleet and wait until its workers serve."""
    for statement in PLACES:
        rig.database.rows(statement)
    for kind, count in (("relay", RELAYS), ("worker", WORKERS)):
        for _ in range(count):
            rig.add(kind, TASK_MODULES=_MODULE, **TIMES)
    rig.await_workers()


def work_off(rig: Rig, tasks: int, kills: int, draw: random.Random) -> None:
    """Enqueue tasks and wait for their end, killing relays and workers on the way."""
    rig.enqueue([Limited() for _ in range(tasks)])
    for ended in sorted(draw.sample(range(1, tasks * 3 // 4), kills)):
        eventually(lambda ended=ended: rig.tend() and rig.live() <= tasks - ended, 120, pause=0.05)  # type: ignore[misc]
        victim = draw.choice([member for member in rig.members if member.is_up()])
        victim.kill(with_children=True)
        victim.start()
    rig.await_end(120)
