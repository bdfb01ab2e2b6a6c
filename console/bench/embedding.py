"""The bench's embedding part: our embedder beside plain sentence-transformers in fp32, on the same texts."""

import random
import statistics
import time
from typing import Any

from core.settings import Settings
from pipelines.documents.embedding import Embedder
from pipelines.documents.models import find_model

_WORDS = (
    "attempt backlog batch broker chunk claim clock commit cursor deadline delay drain document effect event "
    "failure fire grace handler history index interval key lease limit lock message model moment outcome page "
    "payload pipeline policy queue rank relay rescue retry row rule schedule search section session shore "
    "signal slot space splitter status storm table task tenant tide token vector version"
)


def chunks_per_second(settings: Settings, *, texts: int, rounds: int) -> dict[str, Any]:
    """Return chunks a second of both, and their ratio. Both are warm; rounds alternate; texts have 50 to 200 words."""
    from sentence_transformers import SentenceTransformer

    embedder = Embedder.load(
        settings.embedding.model,
        dtype=settings.embedding.dtype,
        batch_tokens=settings.embedding.batch_tokens,
        threads=settings.embedding.threads,
    )
    plain = SentenceTransformer(str(find_model(settings.embedding.model).folder), device="cpu", local_files_only=True)
    sample = _texts(texts)
    embedder.embed(sample[:16])
    plain.encode(sample[:16], show_progress_bar=False)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        theirs.append(_rate(lambda: plain.encode(sample, show_progress_bar=False), texts))
        ours.append(_rate(lambda: embedder.embed(sample), texts))
    embedder.close()
    return {
        "texts": texts,
        "dtype": embedder.dtype,
        "chunks_per_second": round(statistics.median(ours), 1),
        "plain_sentence_transformers_fp32": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
    }


def _rate(work: Any, texts: int) -> float:
    started = time.perf_counter()
    work()
    return texts / (time.perf_counter() - started)


def _texts(count: int) -> list[str]:
    """Return texts of chunks' lengths, the same in every run."""
    words = _WORDS.split()
    chance = random.Random(7)  # noqa: S311 - repeatable texts, nothing secret
    return [" ".join(chance.choices(words, k=chance.randint(50, 200))) for _ in range(count)]
