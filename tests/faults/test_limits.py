"""Limits under fire (I5): with three relays that are killed, as workers are, three run at once and never four."""

import os
import random
import sys
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from db.embedded import EmbeddedServer
from pipelines.enqueue import Options, enqueue_many
from tests.faults.checks import violations
from tests.faults.fleet import TIMES
from tests.faults.limited_tasks import (
    FOLDER,
    Limited,
    LimitedByKey,
    LimitedByQueue,
    LimitedByTenant,
    LimitedByType,
    places,
)
from tests.faults.rig import Rig, rig
from tests.faults.tasks import Effect
from tests.support.waiting import eventually

LIMIT, RELAYS, WORKERS = 3, 3, 2
# For all that the four limits let in together, while the other worker is dead: no type waits for a thread.
THREADS = "12"
_MODULE = "tests.faults.limited_tasks"
_TYPES: tuple[type[Limited], ...] = (LimitedByQueue, LimitedByType, LimitedByKey, LimitedByTenant)
# Each type meets one limit of three. That of each tenant holds for the one that has no limit of its own.
_SET = """
INSERT INTO queue.limits (kind, name, concurrency) VALUES ('queue', 'limited', 3), ('key', 'provider', 3),
    ('task_type', 'fault.limited_by_type', 3), ('tenant', '*', 3),
    ('tenant', (SELECT id::text FROM identity.tenants WHERE slug = 'default'), 1000)
"""
_TOOK = "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8 FROM queue.tasks_history"
_OTHER = "INSERT INTO identity.tenants (name, slug) VALUES ('B', 'b') RETURNING id"


@pytest.mark.timeout(240)
def test_three_run_at_once_and_never_four(redis_rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    hold(redis_rig, capsys, rounds=1, tasks=80, kills=3)


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_three_run_at_once_and_never_four_in_fifty_runs(redis_rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    hold(redis_rig, capsys, rounds=13, tasks=1000, kills=6)


@pytest.mark.timeout(120)
def test_a_rate_holds_within_five_percent_with_three_relays(redis_rig: Rig) -> None:
    set_up(redis_rig)
    query = "INSERT INTO queue.limits (kind, name, rate, rate_seconds, burst) VALUES ('key', 'provider', 40, 1, 4)"
    redis_rig.database.rows(query)
    redis_rig.enqueue([LimitedByKey() for _ in range(404)])
    redis_rig.await_end(60)
    assert redis_rig.database.value(_TOOK) == pytest.approx(400 / 40, rel=0.05)


@pytest.mark.timeout(120)
def test_a_rate_holds_within_five_percent_in_one_process(
    durable_server: EmbeddedServer, durable_home: Path, durable_template: str
) -> None:
    """In a process of its own: what else the suite's process holds is none of a relay's, and would stall it."""
    with rig(durable_server, durable_home, durable_template, None) as alone:
        query = "INSERT INTO queue.limits (kind, name, rate, rate_seconds, burst) VALUES "
        alone.database.rows(query + "('queue', 'default', 100, 1, 10)")
        alone.add("up", RELAY_POLL_SECONDS="30", RELAY_POLL_SECONDS_DEAF="30")
        alone.await_workers()
        alone.enqueue([Effect() for _ in range(1010)])
        alone.await_end(60)
        assert alone.database.value(_TOOK) == pytest.approx(1000 / 100, rel=0.05)


def hold(rig: Rig, capsys: pytest.CaptureFixture[str], *, rounds: int, tasks: int, kills: int) -> None:
    """Round after round, each a run by each kind of limit at once; look after each at how many ran at once."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    with capsys.disabled():
        sys.stdout.write(f"\nlimits under fire: {rounds * len(_TYPES)} runs of {tasks} tasks, seed {seed}\n")
    draw = random.Random(seed)
    set_up(rig)
    rig.database.rows(_SET)
    tenants: dict[type[Limited], UUID] = {LimitedByTenant: rig.database.value(_OTHER)}
    for number in range(rounds):
        work_off(rig, tasks, kills, draw, tenants)
        for kind in _TYPES:
            taken = places(rig.folder, kind)
            assert len(taken) == LIMIT, f"round {number}: {len(taken)} at once, {kind.__name__}"
            assert sum(taken) >= tasks
    assert violations(rig.database) == []


def set_up(rig: Rig) -> None:
    """Start the fleet and wait until its workers serve."""
    (rig.folder / FOLDER).mkdir()
    for kind, count in (("relay", RELAYS), ("worker", WORKERS)):
        for _ in range(count):
            rig.add(kind, TASK_MODULES=_MODULE, **TIMES | {"WORKER_THREADS": THREADS})
    rig.await_workers()


def work_off(rig: Rig, tasks: int, kills: int, draw: random.Random, tenants: dict[type[Limited], UUID]) -> None:
    """Enqueue tasks of each type and wait for their end, killing relays and workers on the way."""
    with psycopg.connect(rig.database.owner_url) as connection:
        for kind in _TYPES:
            options: Options = {"tenant_id": tenants[kind]} if kind in tenants else {}
            enqueue_many(connection, [kind() for _ in range(tasks)], **options)
    total = tasks * len(_TYPES)
    for ended in sorted(draw.sample(range(1, total * 3 // 4), kills)):
        eventually(lambda ended=ended: rig.tend() and rig.live() <= total - ended, 120, pause=0.05)  # type: ignore[misc]
        victim = draw.choice([member for member in rig.members if member.is_up()])
        victim.kill(with_children=True)
        victim.start()
    rig.await_end(120)
