"""A Docker engine that hangs, fails or talks nonsense, and containers that vanish: a reason, soon, and no error."""

import pytest

from pipelines.health.containers import ContainerEngine
from pipelines.health.readings import Reading
from tests.support.docker_engine import Answer, FakeEngine, answer, recorded

# What is not to be waited for in vain, and what is.
PATIENT, SECONDS = 10.0, 0.2
GARBLED: dict[str, Answer] = {"inspect": (200, b'{"Id": "x", "State": 7}')}
FAULTS: list[tuple[str, dict[str, Answer], str]] = [
    ("it is not there", {"inspect": answer({"message": "No such container"}, 404)}, "gone"),
    ("it vanishes after it was looked at", {"stats": answer({"message": "No such container"}, 404)}, "gone"),
    ("it ends after it was looked at", {"stats": answer({"cpu_stats": {"cpu_usage": {}}, "memory_stats": {}})}, "gone"),
    ("it stands", {"inspect": answer(recorded("inspect") | {"State": {"Running": False}})}, "stopped"),
    ("its socket hangs", {"version": "hang"}, "no answer"),
    ("its figures hang", {"stats": "hang"}, "no answer"),
    ("it fails", {"stats": answer({"message": "boom"}, 500)}, "refused"),
    ("it fails at once", {"version": answer({"message": "boom"}, 500)}, "refused"),
    ("it is no engine", {"version": (200, b"<html>")}, "garbled"),
    ("it is no JSON", {"stats": (200, b"{")}, "garbled"),
    ("it is another shape", GARBLED, "garbled"),
    ("its figures are negative", {"stats": answer({"memory_stats": {"usage": -1}})}, "garbled"),
    ("it is a list", {"inspect": (200, b"[1]")}, "garbled"),
    ("it fails without a word", {"inspect": answer({}, 502)}, "garbled"),
    ("it is too deep", {"stats": (200, b"[" * 100_000)}, "garbled"),
    ("it has more processors than there are", {"stats": answer({"cpu_stats": {"online_cpus": 10**400}})}, "garbled"),
]


@pytest.mark.parametrize(("answers", "reason"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_container_that_cannot_be_read_has_a_reason(
    engine: FakeEngine, answers: dict[str, Answer], reason: str
) -> None:
    engine.has_container()
    engine.answers |= answers
    seconds = SECONDS if "hang" in answers.values() else PATIENT
    assert ContainerEngine(engine.url, seconds).read("ada") == reason


def test_a_disk_that_takes_too_long_leaves_the_rest(engine: FakeEngine) -> None:
    engine.has_container()
    engine.answers["list"] = "hang"
    found = ContainerEngine(engine.url, 10 * SECONDS).read("ada")
    assert isinstance(found, Reading)
    assert (found.memory_bytes, found.disk_bytes) == (512_368_384, None)


@pytest.mark.parametrize(
    "listed", [(200, b"[7]"), (200, b"{"), (200, b'[{"SizeRw": "x"}]'), answer([{"SizeRw": 10**400}]), answer({}, 502)]
)
def test_a_disk_of_another_shape_leaves_the_rest(engine: FakeEngine, listed: Answer) -> None:
    engine.has_container()
    engine.answers["list"] = listed
    found = ContainerEngine(engine.url, PATIENT).read("ada")
    assert isinstance(found, Reading)
    assert (found.memory_bytes, found.disk_bytes) == (512_368_384, None)


def test_a_container_that_wrote_nothing_has_a_disk_of_nothing(engine: FakeEngine) -> None:
    engine.has_container()
    [listed] = recorded("list")
    del listed["SizeRw"]  # the engine leaves a size of 0 out
    engine.answers["list"] = answer([listed])
    found = ContainerEngine(engine.url, PATIENT).read("ada")
    assert isinstance(found, Reading)
    assert found.disk_bytes == 0


def test_an_engine_that_was_silent_is_not_asked_again_for_a_while(engine: FakeEngine) -> None:
    engine.answers["version"] = "hang"
    asking = ContainerEngine(engine.url, SECONDS)
    assert [asking.read("ada") for _ in range(5)] == ["no answer"] * 5
    assert engine.asked == ["version"]


def test_an_engine_that_was_silent_is_asked_again_in_the_end(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.health.containers._PAUSE_SECONDS", 0.0)
    engine.answers["version"] = "hang"
    asking = ContainerEngine(engine.url, 5 * SECONDS)
    assert asking.read("ada") == "no answer"
    engine.has_container()
    assert isinstance(asking.read("ada"), Reading)


def test_where_no_engine_is_there_is_no_answer() -> None:
    assert ContainerEngine("tcp://127.0.0.1:1", SECONDS).read("ada") == "no answer"
