"""The pace of retention: pages of a tenth of a second, rests as long, and longer ones while tasks wait."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from db import retention_runs
from db.connection import Connection
from pipelines.retention.runs import Pacer

NOBODY = cast("Connection", None)


@dataclass
class Bench:
    """A clock that is moved by hand and by rests, and how long the oldest task waits."""

    waits: float = 0.0
    now: float = 100.0
    rests: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds

    def pacer(self, seconds: float = 60.0, most: int = 20_000) -> Pacer:
        return Pacer(NOBODY, seconds=seconds, most=most, clock=self, rest=self.rest)

    def page(self, pacer: Pacer, seconds: float) -> int:
        """Take a page that takes so long; return how many rows it was given."""
        with pacer.page() as most:
            self.now += seconds
        return most


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(retention_runs, "waiting_seconds", lambda connection, own_queue: bench.waits)
    return bench


def test_pages_come_to_take_a_tenth_of_a_second(bench: Bench) -> None:
    pacer = bench.pacer()
    sizes = [bench.page(pacer, 0.01) for _ in range(3)]
    assert sizes == [1000, 2000, 4000], "twice as many at the most"
    assert [bench.page(pacer, seconds) for seconds in (0.125, 10.0, 0.1, 0.1)] == [8000, 6400, 3200, 3200]


def test_a_page_has_a_thousand_rows_at_the_least_and_no_more_than_is_allowed(bench: Bench) -> None:
    slow, quick = bench.pacer(seconds=10_000), bench.pacer(most=700, seconds=10_000)
    assert [bench.page(slow, 60.0) for _ in range(12)][-1] == 1000
    assert [bench.page(quick, 0.0) for _ in range(3)] == [700, 700, 700]


def test_a_rest_is_as_long_as_its_page_and_longer_while_tasks_wait(bench: Bench) -> None:
    pacer = bench.pacer(seconds=10_000)
    for waits, rest in ((0.0, 0.1), (0.1, 0.2), (0.9, 1.0)):
        bench.waits = waits
        bench.page(pacer, 0.1)
        assert bench.rests[-1] == pytest.approx(rest)
    assert not pacer.is_over


@pytest.mark.parametrize(("waits", "took", "pause"), [(1.0, 0.1, 1.1), (3600.0, 0.1, 2.0), (3600.0, 20.0, 30.0)])
def test_an_attempt_makes_way_for_tasks_that_wait_and_comes_back(
    bench: Bench, waits: float, took: float, pause: float
) -> None:
    pacer = bench.pacer()
    bench.waits = waits
    bench.page(pacer, took)
    assert (pacer.is_over, bench.rests) == (True, [])
    assert pacer.pause.total_seconds() == pytest.approx(pause)


def test_what_cannot_be_broken_off_goes_on_and_rests_as_long_as_its_page(bench: Bench) -> None:
    pacer = bench.pacer()
    bench.waits = 3600.0
    with pacer.page(keeps_on=True):
        bench.now += 0.1
    assert not pacer.is_over
    assert bench.rests == [pytest.approx(0.1)]


def test_the_time_is_up_and_nobody_rests_for_the_next_attempt(bench: Bench) -> None:
    pacer = bench.pacer(seconds=5.0)
    assert not pacer.is_over
    bench.page(pacer, 6.0)
    assert (pacer.is_over, bench.rests) == (True, [])


def test_a_page_that_fails_ends_no_page(bench: Bench) -> None:
    pacer = bench.pacer()
    with pytest.raises(ZeroDivisionError), pacer.page():
        bench.waits = 1 / 0
    assert bench.rests == []
    assert bench.page(pacer, 0.1) == 1000
