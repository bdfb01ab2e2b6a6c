"""An endpoint that embeds: what it gives is looked at, what it refuses is narrowed down or waited for."""

import email.utils
import re
import time
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest

from core.errors import PermanentError, RateLimitedError, RetryableError, SettingsError
from core.settings import load_settings
from pipelines.documents.embedders import Models
from pipelines.documents.endpoint import EndpointEmbedder, endpoint_model, is_endpoint
from pipelines.documents.tokens import count
from tests.support.embedding_endpoint import (
    DIMENSIONS,
    Answer,
    Endpoint,
    failure,
    success,
    vector_of,
)
from tests.support.waiting import eventually

TEXTS = [f"text number {n}" for n in range(10)]


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
        away._endpoint._away_until = 0.0
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2
    assert pauses[3] >= 12


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_its_endpoint_is_waited_for(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda texts: failure(status)
    embedder = embedder_of(endpoint)
    first = failure_of(embedder)
    embedder._endpoint._away_until = 0.0
    second = failure_of(embedder)
    assert isinstance(first, RateLimitedError)
    assert isinstance(second, RateLimitedError)
    assert first.pause < second.pause
    endpoint.answer = success
    assert embedder.compute(TEXTS).failures == {}
    endpoint.answer = lambda texts: failure(status)
    embedder._endpoint._away_until = 0.0
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


def test_vectors_of_a_changed_model_are_told_from_those_before(endpoint: Endpoint) -> None:
    plain, told = (endpoint_model(endpoint.settings(revision=revision)) for revision in (None, "2026-11"))
    assert (plain.revision, told.revision) == ("endpoint", "endpoint:2026-11")
    assert is_endpoint(plain.revision)
    assert is_endpoint(told.revision)
    assert not is_endpoint("1110a243fdf4")
