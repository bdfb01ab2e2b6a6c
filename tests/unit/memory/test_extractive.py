"""Sentences that stand for their sources: what is chosen, in which order, within which bounds."""

from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest

from core.errors import RateLimitedError
from pipelines.documents.tokens import count
from pipelines.documents.vectors import Embedded
from pipelines.memory.summarising import Source
from pipelines.memory.summarising.extractive import Extractive
from tests.support.word_vectors import WordVectors

ONE = (
    "Tasks wait in the queue until a worker takes them. A worker takes tasks from the queue by their priority. "
    "The limit is 64 tasks for each worker, set by Ada Byron in 1843. It is nice."
)
TWO = (
    "A worker takes tasks from the queue by their priority. Tasks that fail in a worker go back to the queue. "
    "Somebody liked it."
)


def sources_of(*texts: str) -> list[Source]:
    vectors = WordVectors().compute(texts).vectors
    return [Source(UUID(int=n), text, vectors[n], count(text)) for n, text in enumerate(texts)]


def test_a_summary_keeps_to_its_share_and_to_the_order_of_its_sources() -> None:
    sources = sources_of(ONE, TWO)
    total = sum(source.token_count for source in sources)
    for share in (0.2, 0.5, 0.9):
        summary = Extractive(WordVectors(), share=share).summarise(sources)
        assert count(summary.text) <= max(share * total, 20) + 2  # a line's end, a space
        places = [(ONE + "\n" + TWO).index(line) for line in summary.text.splitlines()]
        assert places == sorted(places)
        assert len(summary.origins) >= 1
        assert (summary.method, summary.model, summary.prompt_tokens) == ("extractive", None, 0)


def test_what_is_said_twice_is_kept_once() -> None:
    summary = Extractive(WordVectors(), share=0.9).summarise(sources_of(ONE, TWO, ONE.upper()))
    assert summary.text.casefold().count("by their priority") == 1


def test_what_is_nearly_said_twice_is_kept_once() -> None:
    near = (
        "The keeper lights the lamp of the tower at dusk each day.",
        "At dusk each day the keeper lights the lamp of the tower.",
    )
    summary = Extractive(WordVectors(), share=0.9).summarise(sources_of(*near))
    assert summary.text in near


def test_what_names_something_goes_before_what_does_not() -> None:
    named = "The worker of 1843 has a limit of 64 tasks."
    plain = "The worker of then has a limit of some tasks."
    [source] = sources_of(f"{plain} {named}")
    assert Extractive(WordVectors(), share=0.5).summarise([source]).text == named


def test_the_same_sources_make_the_same_summary() -> None:
    texts = {Extractive(WordVectors(), share=0.5).summarise(sources_of(ONE, TWO)).text for _ in range(5)}
    assert len(texts) == 1


def test_a_summary_is_no_longer_than_what_the_model_reads() -> None:
    summary = Extractive(WordVectors(), share=0.9, fits=lambda text: len(text) <= 120).summarise(sources_of(ONE, TWO))
    assert 0 < len(summary.text) <= 120


@pytest.mark.parametrize("text", ["one", "…", "a\n\nb", "x" * 5000, "| a | b |\n| - | - |"])
def test_any_text_has_a_summary(text: str) -> None:
    summary = Extractive(WordVectors(), share=0.1).summarise(sources_of(text, text))
    assert summary.text.strip()
    assert summary.origins == (UUID(int=0),)


def test_nothing_has_none() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Extractive(WordVectors(), share=0.5).summarise([])


def test_an_embedder_that_refuses_is_waited_for() -> None:
    class Refusing(WordVectors):
        def compute(self, texts: object) -> Embedded:
            return Embedded(
                np.zeros((9, 64), dtype=np.float32), {0: RateLimitedError("k", "no", retry_after=timedelta(seconds=1))}
            )

    with pytest.raises(RateLimitedError):
        Extractive(Refusing(), share=0.5).summarise(sources_of(ONE))


def test_another_share_is_another_version() -> None:
    assert Extractive(WordVectors(), share=0.5).version != Extractive(WordVectors(), share=0.4).version
