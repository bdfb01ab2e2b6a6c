"""An endpoint that embeds: what it gives is looked at, what it refuses is narrowed down or waited for."""

import email.utils
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.setup import create_space
from core.errors import PermanentError, RateLimitedError, RetryableError, SettingsError
from core.settings import load_settings
from db import spaces
from pipelines.documents.embedders import Models
from pipelines.documents.endpoint import EndpointEmbedder, endpoint_model, is_endpoint
from pipelines.documents.payloads import EmbedQuery, FillSpace
from pipelines.documents.tokens import count
from pipelines.enqueue import enqueue
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.integration.documents.library import Library
from tests.support.database import Database
from tests.support.embedding_endpoint import (
    DIMENSIONS,
    Answer,
    Endpoint,
    embedding_endpoint,
    failure,
    success,
    vector_of,
)
from tests.support.waiting import eventually

TEXTS = [f"text number {n}" for n in range(10)]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with embedding_endpoint() as endpoint:
        yield endpoint


def embedder_of(endpoint: Endpoint, **changed: Any) -> EndpointEmbedder:
    settings = endpoint.settings(**changed)
    return EndpointEmbedder(endpoint_model(settings), settings, limit_key="model:remote")


def failure_of(embedder: EndpointEmbedder) -> Exception:
    """Return why none of the texts was embedded, one reason for all."""
    embedded = embedder.compute(TEXTS)
    assert list(sorted(embedded.failures)) == list(range(len(TEXTS)))
    [reason] = set(embedded.failures.values())
    return reason


def normalised(texts: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = np.array([vector_of(text) for text in texts])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_texts_come_back_as_vectors_in_their_order_batch_by_batch(endpoint: Endpoint) -> None:
    embedded = embedder_of(endpoint, batch=4, price=2.0, asks_dimensions=True).compute(TEXTS)
    np.testing.assert_allclose(embedded.vectors, normalised(TEXTS), rtol=1e-5)
    assert embedded.failures == {}
    assert embedded.tokens == 30
    assert embedded.cost == pytest.approx(30 * 2e-6)
    assert sorted(len(asked["input"]) for asked in endpoint.asked) == [2, 4, 4]
    assert {(asked["path"], asked["model"], asked["dimensions"]) for asked in endpoint.asked} == {
        ("/v1/embeddings", "remote", DIMENSIONS)
    }
    assert set(endpoint.keys) == {"Bearer a-secret-key"}
    assert len(embedder_of(endpoint).compute([]).vectors) == 0


def test_what_is_too_much_at_once_is_halved(endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: failure(413, "too large") if len(texts) > 3 else success(texts)
    embedded = embedder_of(endpoint).compute(TEXTS)
    np.testing.assert_allclose(embedded.vectors, normalised(TEXTS), rtol=1e-5)
    assert embedded.failures == {}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_is_refused_fails_alone(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda texts: failure(status, "not this one") if TEXTS[6] in texts else success(texts)
    embedded = embedder_of(endpoint).compute(TEXTS)
    assert list(embedded.failures) == [6]
    assert isinstance(embedded.failures[6], PermanentError)
    assert "not this one" in str(embedded.failures[6])
    others = [text for text in TEXTS if text != TEXTS[6]]
    np.testing.assert_allclose(np.delete(embedded.vectors, 6, axis=0), normalised(others), rtol=1e-5)


@pytest.mark.parametrize(
    ("after", "seconds"), [("7", 7), ("1.5", 1.5), ("0", 1), ("-3", 1), ("999999", 3600), (None, None), ("soon", None)]
)
def test_a_provider_that_refuses_for_now_says_for_how_long(
    endpoint: Endpoint, after: str | None, seconds: float | None
) -> None:
    headers = {} if after is None else {"Retry_After": after}
    endpoint.answer = lambda texts: failure(429, "slow down", **headers)
    refused = failure_of(embedder_of(endpoint))
    assert isinstance(refused, RateLimitedError)
    assert "slow down" in str(refused)
    assert refused.key == "model:remote"
    assert refused.retry_after == (None if seconds is None else timedelta(seconds=seconds))
    assert len(endpoint.asked) == 1, "its library does not ask again by itself"


def test_a_date_says_it_as_well(endpoint: Endpoint) -> None:
    moment = email.utils.formatdate(time.time() + 60, usegmt=True)
    endpoint.answer = lambda texts: failure(503, Retry_After=moment)
    refused = failure_of(embedder_of(endpoint))
    assert isinstance(refused, RateLimitedError)
    assert refused.retry_after is not None
    assert 50 < refused.retry_after.total_seconds() <= 60


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_is_waited_for_and_not_shown(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda texts: failure(status, "a-secret-key is nobody's")
    refused = failure_of(embedder_of(endpoint))
    assert isinstance(refused, RateLimitedError)
    assert refused.retry_after == timedelta(minutes=5)
    assert "mend its key" in str(refused)
    assert "nobody's" in str(refused)
    assert "a-secret-key" not in str(refused)


def _refuse(said: str, texts: list[str]) -> Answer:
    return failure(400, said)


def test_what_it_says_with_words_of_a_text_is_not_repeated(endpoint: Endpoint) -> None:
    for secret, said in (
        ("the safe stands behind the third picture", "cannot read 'safe stands behind the thi'"),
        ("PIN 4711", "cannot read 'PIN 4711'"),
        ("two\nlines of what is secret here", r"cannot read 'lines of\nwhat is secret'"),
    ):
        endpoint.answer = partial(_refuse, said)
        embedded = embedder_of(endpoint).compute([secret])
        assert "answered 400: (with words of the text)" in str(embedded.failures[0])


def test_what_it_gave_before_it_refused_is_kept(endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: success(texts) if len(endpoint.asked) <= 2 else failure(429, Retry_After="8")
    embedded = embedder_of(endpoint, batch=2, price=1.0).compute(TEXTS)
    kept = [place for place in range(10) if place not in embedded.failures]
    assert len(kept) == 4
    np.testing.assert_allclose(embedded.vectors[kept], normalised([TEXTS[place] for place in kept]), rtol=1e-5)
    assert {type(failure) for failure in embedded.failures.values()} == {RateLimitedError}
    assert embedded.tokens == 12
    assert embedded.cost > 0


def test_one_that_refuses_every_text_is_not_asked_about_each(endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: failure(400, "unknown option: dimensions")
    embedded = embedder_of(endpoint).compute([f"text {n}" for n in range(100)])
    assert len(embedded.failures) == 100
    assert len(endpoint.asked) < 20
    kinds = [type(failure) for failure in embedded.failures.values()]
    assert kinds.count(PermanentError) == 4
    assert kinds.count(RetryableError) == 96


def test_while_nobody_is_there_its_tasks_wait_longer_each_time(endpoint: Endpoint) -> None:
    away = embedder_of(endpoint, url="http://127.0.0.1:1/v1")
    pauses: list[float] = []
    for _ in range(4):
        refused = failure_of(away)
        assert isinstance(refused, RateLimitedError)
        assert "no connection" in str(refused)
        pauses.append(refused.pause.total_seconds())
        again = failure_of(away)
        assert isinstance(again, RateLimitedError)
        assert again.pause < refused.pause, "those who find it out together are one time"
        away._away_until = 0.0
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2
    assert pauses[3] >= 12


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_its_endpoint_is_waited_for(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda texts: failure(status)
    embedder = embedder_of(endpoint)
    first = failure_of(embedder)
    embedder._away_until = 0.0
    second = failure_of(embedder)
    assert isinstance(first, RateLimitedError)
    assert isinstance(second, RateLimitedError)
    assert first.pause < second.pause
    endpoint.answer = success
    assert embedder.compute(TEXTS).failures == {}
    endpoint.answer = lambda texts: failure(status)
    embedder._away_until = 0.0
    again = failure_of(embedder)
    assert isinstance(again, RateLimitedError)
    assert again.pause <= timedelta(seconds=2), "it has answered in between"


def test_no_more_of_a_text_is_sent_than_it_reads(endpoint: Endpoint) -> None:
    long = "Grüße an alle Freunde des Tees, " * 50
    embedder_of(endpoint, max_tokens=32).compute([long, "short"])
    sent, short = endpoint.asked[0]["input"]
    assert short == "short"
    assert long.startswith(sent)
    assert 28 <= count(sent) <= 32


def nan(texts: list[str]) -> Answer:
    return success(texts, data=[{"index": n, "embedding": [float("nan")] * DIMENSIONS} for n in range(len(texts))])


def zero(texts: list[str]) -> Answer:
    return success(texts, data=[{"index": n, "embedding": [0.0] * DIMENSIONS} for n in range(len(texts))])


def longer(texts: list[str]) -> Answer:
    return success(texts, data=[{"index": n, "embedding": [1.0] * 9} for n in range(len(texts))])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (nan, "not finite"),
        (zero, "all zero"),
        (longer, r"\[9\] dimensions instead of 8"),
        (lambda texts: success(texts[1:]), "9 vectors for 10 texts"),
        (lambda texts: success(texts, data=[]), "0 vectors for 10 texts|does not answer|protocol"),
        (lambda texts: (200, {}, b""), "does not answer|protocol"),
        (lambda texts: (200, {"Content-Type": "application/json"}, b"[1, 2"), "does not answer|protocol"),
        (lambda texts: (200, {"Content-Type": "text/html"}, b"<html>"), "does not answer|protocol"),
        (lambda texts: (200, {"Content-Type": "application/json"}, b'{"data": [{"index": 0}]}'), "vectors|protocol"),
        (lambda texts: None, "does not answer"),
        (lambda texts: failure(500), "answered 500"),
        (lambda texts: failure(408), "answered 408"),
    ],
    ids=range(12),
)
def test_nonsense_and_silence_are_tried_again(endpoint: Endpoint, answer: Any, says: str) -> None:
    endpoint.answer = answer
    failed = failure_of(embedder_of(endpoint))
    assert isinstance(failed, RetryableError)
    assert not isinstance(failed, RateLimitedError)
    assert re.search(says, str(failed))


def test_an_endpoint_that_hangs_is_given_up_in_time(endpoint: Endpoint) -> None:
    def hang(texts: list[str]) -> Answer:
        eventually(lambda: len(endpoint.asked) > 1, 10)
        return success(texts)

    endpoint.answer = hang
    started = time.monotonic()
    assert "does not answer" in str(failure_of(embedder_of(endpoint, seconds=0.3)))
    assert time.monotonic() - started < 5
    endpoint.asked.append({})


def test_a_redirect_is_not_followed(endpoint: Endpoint) -> None:
    elsewhere = f"{endpoint.url}/private"
    endpoint.answer = lambda texts: failure(302, Location=elsewhere)
    refused = failure_of(embedder_of(endpoint))
    assert isinstance(refused, PermanentError)
    assert "GREENROOM_ENDPOINT_URL" in str(refused)
    assert len(endpoint.asked) == 1


def test_usage_that_is_left_out_costs_nothing(endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: success(texts, usage=None)
    assert embedder_of(endpoint).compute(TEXTS).tokens == 0


def test_half_an_endpoint_is_refused() -> None:
    settings = load_settings(_env_file=None, endpoint={"url": "http://x", "model": "all-MiniLM-L6-v2"})
    with pytest.raises(SettingsError, match="dimensions"):
        Models(settings).all()


# ------------------------------------------------------------------------------------------------ in the pipeline


@pytest.fixture
def shelf(database: Database, endpoint: Endpoint, storage_root: Path) -> Iterator[Library]:
    """A library that knows the packaged model and the endpoint's."""
    given = endpoint.settings(price=10.0, batch=2).model_dump()
    settings = load_settings(
        _env_file=None, storage={"root": storage_root}, embedding={"other_models": ("remote",)}, endpoint=given
    )
    resources = provide_resources(Resources(), settings)
    library = Library(database, resources, storage_root)
    model = Models(settings).named("remote")
    assert model is not None
    create_space(database.connect(), model)
    yield library
    library.line.close()
    resources.close()


def vectors(shelf: Library) -> int:
    space = spaces.named(shelf.database.connect(), "remote")
    count: int = shelf.database.value("SELECT count(*) FROM knowledge.chunk_vectors WHERE space_id = %s", (space.id,))
    return count


def worked_off(shelf: Library) -> int:
    """Do what is due; return how many vectors there are then."""
    shelf.work()
    return vectors(shelf)


def test_what_an_endpoint_embeds_is_booked_and_searched(shelf: Library, endpoint: Endpoint) -> None:
    document_id = shelf.ingest("tea.md", "# Tea\n\nOolong is half oxidised.\n")
    assert shelf.document(document_id) == ("completed", 1, 1, None)
    assert vectors(shelf) == 1
    [result] = shelf.database.rows("SELECT result FROM queue.tasks_history WHERE owner_kind = 'space'")[0]
    tokens = len(endpoint.asked[0]["input"][0].split())
    assert result == {"embedded": 1, "tokens": tokens, "cost": pytest.approx(tokens * 10e-6)}
    owner = shelf.database.connect()
    space = spaces.named(owner, "remote")
    spaces.build_index(owner, space)
    spaces.switch(owner, space)
    assert [hit.document_name for hit in shelf.search("oolong", strategy="vector")] == ["tea.md"]


def test_a_refusal_pauses_the_endpoint_and_nothing_else_and_costs_no_attempt(
    shelf: Library, endpoint: Endpoint
) -> None:
    endpoint.answer = lambda texts: failure(429, Retry_After="8")
    documents = [shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n") for name in ("tea", "knots", "kites")]
    assert [shelf.document(document_id)[0] for document_id in documents] == ["completed"] * 3
    assert vectors(shelf) == 0
    assert len(endpoint.asked) <= 2, "who refuses one refuses all: the others were not sent"

    endpoint.answer = success
    eventually(lambda: worked_off(shelf) == 3, 40, pause=0.2)
    ends = shelf.database.rows("SELECT status, attempts FROM queue.tasks_history WHERE owner_kind = 'space'")
    assert ends == [("done", 1)] * 3


def test_a_text_that_is_refused_fails_its_own_slice(shelf: Library, endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: failure(400, "no tea") if any("tea" in text for text in texts) else success(texts)
    for name in ("tea", "knots", "kites"):
        shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n")
    assert vectors(shelf) == 2
    [error] = shelf.database.rows("SELECT last_error FROM queue.tasks_history WHERE status = 'failed'")[0]
    assert "1 of its texts cannot be embedded" in error
    assert "no tea" in error
    endpoint.answer = success
    space = spaces.named(shelf.database.connect(), "remote")
    enqueue(shelf.connection, FillSpace(space_id=space.id))
    shelf.work()
    assert vectors(shelf) == 3


def test_of_a_batch_that_an_endpoint_breaks_off_the_finished_slices_are_written(
    shelf: Library, endpoint: Endpoint
) -> None:
    endpoint.answer = lambda texts: (
        failure(429, Retry_After="8") if any("knots" in text for text in texts) else success(texts)
    )
    for name in ("tea", "knots"):
        shelf.ingest(f"{name}.md", f"# {name}\n\nAll about {name}.\n")
    left = shelf.database.rows("SELECT snoozes, attempts FROM queue.tasks_live WHERE task_type = 'chunks.embed'")
    assert left == [(1, 0)]
    assert vectors(shelf) == 1


def test_a_slice_that_is_broken_off_goes_on_from_where_it_was(shelf: Library, endpoint: Endpoint) -> None:
    endpoint.answer = lambda texts: success(texts) if len(endpoint.asked) == 1 else failure(429, Retry_After="1")
    document_id = shelf.ingest("tea.md", "\n\n".join(f"# Part {n}\n\n{'Leaves and water. ' * 60}" for n in range(5)))
    chunks = shelf.database.value("SELECT count(*) FROM knowledge.chunks WHERE document_id = %s", (document_id,))
    assert chunks > 4
    assert vectors(shelf) == 2, "what the first request gave"
    endpoint.asked.clear()
    endpoint.answer = success
    eventually(lambda: worked_off(shelf) == chunks, 20, pause=0.2)
    assert sum(len(asked["input"]) for asked in endpoint.asked) == chunks - 2


def test_a_search_that_its_endpoint_refuses_says_so_at_once(shelf: Library, endpoint: Endpoint) -> None:
    shelf.ingest("tea.md", "# Tea\n\nOolong is half oxidised.\n")
    owner = shelf.database.connect()
    space = spaces.named(owner, "remote")
    spaces.build_index(owner, space)
    spaces.switch(owner, space)
    endpoint.answer = lambda texts: failure(429, "slow down", Retry_After="50")
    task_id = enqueue(shelf.connection, EmbedQuery(text="oolong"))
    shelf.work()
    task = shelf.line.task(task_id)
    assert task["status"] == "failed"
    assert "slow down" in task["last_error"]
    endpoint.answer = success
    assert [hit.document_name for hit in shelf.search("oolong", strategy="vector")] == ["tea.md"]


def test_vectors_of_a_changed_model_are_told_from_those_before(endpoint: Endpoint) -> None:
    plain, told = (endpoint_model(endpoint.settings(revision=revision)) for revision in (None, "2026-11"))
    assert (plain.revision, told.revision) == ("endpoint", "endpoint:2026-11")
    assert is_endpoint(plain.revision)
    assert is_endpoint(told.revision)
    assert not is_endpoint("1110a243fdf4")
