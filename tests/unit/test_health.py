"""What readings of containers and processes come to, and when a measure is told of."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psutil
import pytest

from core.groups import HealthSettings
from db.persona_health import Counters, Metric, Threshold, Usage
from pipelines.health import processes
from pipelines.health.containers import Inspected, Stats, memory_bytes, reading_of
from pipelines.health.measure import host_queue
from pipelines.health.readings import Reading, cpu_percent, usage_of
from pipelines.health.thresholds import crossed_after, crossings, defaults
from tests.support.docker_engine import recorded

SECOND = 10**9
# ------------------------------------------------------------------------------------------------ processor time


def counters(used: float, capacity: float, source: str = "a") -> Counters:
    return Counters(source, round(used * SECOND), round(capacity * SECOND))


@pytest.mark.parametrize(
    ("before", "now", "share", "percent"),
    [
        (counters(10, 100), counters(11, 104), 1.0, 25),
        (counters(10, 100), counters(11, 104), 0.5, 50),
        (counters(10, 100), counters(10, 104), 1.0, 0),
        (counters(10, 100), counters(12.5, 110), 0.24, 100),
        (None, counters(11, 104), 1.0, None),
        (counters(10, 100), None, 1.0, None),
        (counters(10, 100), counters(11, 104, "b"), 1.0, None),
        (counters(10, 100), counters(9, 104), 1.0, None),
        (counters(10, 100), counters(11, 100), 1.0, None),
        (counters(10, 100), counters(11, 4), 1.0, None),
        (counters(10, 100), counters(30, 104), 1.0, None),
    ],
    ids=[
        "a quarter of all", "half of its half", "idle", "more than its quota at the edge", "the first", "not read",
        "started anew", "its counter wrapped", "its host stands still", "its host started anew", "more than there is",
    ],
)  # fmt: skip
def test_processor_time_is_of_what_may_be_used_and_unknown_where_counters_do_not_fit(
    before: Counters | None, now: Counters | None, share: float, percent: int | None
) -> None:
    assert cpu_percent(before, now, share) == (None if percent is None else Decimal(percent))


def test_what_was_not_read_is_null_and_never_zero() -> None:
    assert usage_of(Reading(), None) == Usage(None, None, None, None)
    assert usage_of(Reading(memory_bytes=5_000_000, memory_limit=0), None) == Usage(memory_mb=5)


def test_a_reading_has_units_and_fits_its_columns() -> None:
    reading = Reading(512_400_000, 1_024_800_000, 1_234_567_890)
    assert usage_of(reading, None) == Usage(None, 512, Decimal("50.00"), Decimal("1.23"))
    vast = usage_of(Reading(2**63, 2**62, 2**63), None)
    assert vast == Usage(None, 2**31 - 1, Decimal(100), Decimal("99999999.99"))


# ------------------------------------------------------------------------------------------------ containers


def inspected(**host: Any) -> Inspected:
    found = recorded("inspect")
    return Inspected.model_validate(found | {"HostConfig": host})


@pytest.mark.parametrize("version", ["stats_v1", "stats_v2"])
def test_a_containers_answers_are_read_on_both_versions_of_cgroups(version: str) -> None:
    stats = Stats.model_validate(recorded(version))
    reading = reading_of(Inspected.model_validate(recorded("inspect")), stats, 7)
    source = "container 9b7c3f6e51a84d0f8f3f8c5ad1f1c2f07b6d7f0b7a9f4e3d2c1b0a9f8e7d6c5b 2026-11-23T08:00:00.123456789Z"
    assert reading == Reading(
        memory_bytes=512_368_384,
        memory_limit=1_073_741_824,
        disk_bytes=7,
        counters=Counters(source, 90 * SECOND, 400_000 * SECOND),
        share=1.5 / 4,
    )


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ({"usage": 100, "stats": {"total_inactive_file": 40, "inactive_file": 10}}, 60),
        ({"usage": 100, "stats": {"inactive_file": 30}}, 70),
        ({"usage": 100, "stats": {"inactive_file": 100}}, 100),
        ({"usage": 100, "stats": {"inactive_file": "x"}}, 100),
        ({"usage": 100}, 100),
        ({}, None),
    ],
)
def test_memory_is_without_the_page_cache(memory: dict[str, Any], wanted: int | None) -> None:
    assert memory_bytes(Stats.model_validate({"memory_stats": memory})) == wanted


@pytest.mark.parametrize(
    ("host", "share"),
    [
        ({"NanoCpus": 500_000_000}, 0.125),
        ({"CpuQuota": 200_000, "CpuPeriod": 100_000}, 0.5),
        ({"CpuQuota": 50_000}, 0.125),
        ({"CpuQuota": -1}, 1.0),
        ({"CpusetCpus": "0-1,3"}, 0.75),
        ({"CpusetCpus": "1", "NanoCpus": 3_000_000_000}, 0.25),
        ({"NanoCpus": 64_000_000_000}, 1.0),
        ({}, 1.0),
    ],
)
def test_what_a_container_may_use_is_its_quota_its_set_or_all(host: dict[str, Any], share: float) -> None:
    assert reading_of(inspected(**host), Stats.model_validate(recorded("stats_v2")), None).share == share


def test_processors_are_counted_by_their_counters_where_the_engine_does_not_say() -> None:
    found = recorded("stats_v1")
    del found["cpu_stats"]["online_cpus"]
    assert reading_of(inspected(NanoCpus=SECOND), Stats.model_validate(found), None).share == 0.25
    del found["cpu_stats"]["cpu_usage"]["percpu_usage"]
    assert reading_of(inspected(), Stats.model_validate(found), None).counters is None


# ------------------------------------------------------------------------------------------------ processes


def test_a_process_is_measured_and_one_that_has_its_number_now_is_not() -> None:
    own = psutil.Process()
    started = datetime.fromtimestamp(own.create_time(), UTC)
    found = processes.read(own.pid, started)
    assert isinstance(found, Reading)
    assert found.memory_bytes is not None
    assert found.memory_bytes == pytest.approx(own.memory_info().rss, rel=0.1)
    assert found.memory_limit == psutil.virtual_memory().total
    assert found.disk_bytes is None
    again = processes.read(own.pid, started)
    assert isinstance(again, Reading)
    assert again.counters is not None
    assert found.counters is not None
    assert again.counters.source == found.counters.source
    assert again.counters.capacity_ns > found.counters.capacity_ns
    assert processes.read(own.pid, started + timedelta(seconds=10)) == "another process"


def test_a_process_that_is_not_there_has_gone() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    started = datetime.fromtimestamp(psutil.Process(child).create_time(), UTC)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert processes.read(child, started) == "stopped"
    os.waitpid(child, 0)
    assert processes.read(child, started) == "gone"


def test_a_process_that_is_not_ours_to_look_at_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_process_id: int) -> psutil.Process:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    assert processes.read(1, datetime.now(UTC)) == "no access"


def test_a_hosts_queue_bears_its_name() -> None:
    assert [host_queue("alpha"), host_queue(None)] == ["host-alpha", "default"]


# ------------------------------------------------------------------------------------------------ thresholds

CPU = Threshold(Decimal(80), Decimal(70))


def test_a_threshold_is_crossed_once_and_cleared_once() -> None:
    crossed: list[Metric] = []
    told = []
    for value in (79, 80, 95, 75, None, 70, 69, 75, None, 90, 20):
        changes = crossings({"cpu_percent": value}, {"cpu_percent": CPU}, crossed)
        crossed = crossed_after(crossed, changes)
        told += [(value, change.is_up) for change in changes]
    assert told == [(80, True), (69, False), (90, True), (20, False)]


def test_measures_cross_their_thresholds_apart() -> None:
    figures: dict[Metric, Decimal | int | None] = {"cpu_percent": 90, "memory_mb": 10, "active_runs_count": 3}
    thresholds: dict[Metric, Threshold | None] = {
        "cpu_percent": CPU, "memory_mb": CPU, "active_runs_count": Threshold(Decimal(3), Decimal(3)),
    }  # fmt: skip
    found = crossings(figures, thresholds, ["memory_mb"])
    assert [(change.metric, change.is_up) for change in found] == [
        ("cpu_percent", True), ("memory_mb", False), ("active_runs_count", True),
    ]  # fmt: skip
    assert crossed_after(["memory_mb"], found) == ["cpu_percent", "active_runs_count"]


def test_a_threshold_that_was_taken_away_is_cleared_whatever_is_measured() -> None:
    [change] = crossings({"cpu_percent": None}, {"cpu_percent": None}, ["cpu_percent"])
    assert (change.is_up, change.threshold) == (False, None)


def test_the_settings_thresholds_clear_a_tenth_below_and_none_is_zero() -> None:
    found = defaults(HealthSettings(cpu_percent=80, memory_percent=0, cost=0.5))
    assert found["cpu_percent"] == Threshold(Decimal("80.0"), Decimal(72))
    assert found["estimated_cost"] == Threshold(Decimal("0.5"), Decimal("0.45"))
    assert (found["memory_percent"], found["disk_usage_gb"]) == (None, None)
