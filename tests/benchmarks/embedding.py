"""Chunks a second of the Embedder beside plain sentence-transformers on the same texts; prints JSON.

    python -m tests.benchmarks.embedding [--chunks 1000] [--rounds 3] [--dtypes bf16] [--budgets 2048] [--threads 2]

The texts are the docstrings of Python's standard library, split as the pipeline splits. Every round runs all
candidates one after the other, so that other load on the machine meets all of them; `best` and `median` are over the
rounds. `ratio` is to `plain`: `SentenceTransformer.encode(texts)` as it comes, in fp32, with torch's default threads.

Caveats: one process, tokenisation included, no database; each candidate has one warm-up call of 32 texts. Chunks a
second of processor time suffer less from other load, but count the time that threads wait for each other. The
allocator's settings have to be in the environment at start: run it again with `MALLOC_…` set to see their effect.
"""

import argparse
import ast
import itertools
import json
import os
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.documents.embedding import Embedder, prepare_environment
from pipelines.documents.models import ModelFiles, find_model
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.plain import plain_blocks
from pipelines.documents.parsing.types import ParsedDocument, normalise
from pipelines.documents.splitting import split

Embed = Callable[[list[str]], Any]


def main() -> None:
    """Measure and print."""
    options = _options()
    files = find_model()
    texts = sample_texts(options.chunks, files)
    candidates = _candidates(options, files)
    reference = np.asarray(candidates["plain"](texts[:200]))
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    by_cpu: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(options.rounds):
        for name, embed in candidates.items():
            embed(texts[:32])
            begin, begin_cpu = time.perf_counter(), time.process_time()
            embed(texts)
            by_cpu[name].append(len(texts) / (time.process_time() - begin_cpu))
            rounds[name].append(len(texts) / (time.perf_counter() - begin))
            sys.stderr.write(f"{name}: {rounds[name][-1]:.1f} chunks/s\n")
    plain = rounds["plain"]
    results = {
        name: {
            "best_chunks_per_second": round(max(rates), 1),
            "median_chunks_per_second": round(statistics.median(rates), 1),
            "best_chunks_per_cpu_second": round(max(by_cpu[name]), 1),
            "ratio_best": round(max(rates) / max(plain), 2),
            # Of pairs of the same round: other load on the machine weighs on both.
            "ratio_median": round(statistics.median(a / b for a, b in zip(rates, plain, strict=True)), 2),
            "least_cosine_to_plain": round(
                float((np.asarray(candidates[name](texts[:200])) * reference).sum(1).min()), 5
            ),
        }
        for name, rates in rounds.items()
    }
    lengths = [len(files.tokenizer.encode(text).ids) for text in texts]
    parameters = {
        **vars(options),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "mean_tokens": round(statistics.mean(lengths), 1),
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
    }
    caveats = "one process, tokenisation included, no database; other load on the machine is not excluded"
    json.dump({"parameters": parameters, "caveats": caveats, "results": results}, sys.stdout, indent=2)
    sys.stdout.write("\n")


def sample_texts(count: int, files: ModelFiles) -> list[str]:
    """Return real chunks: the standard library's docstrings, split at 256 tokens."""
    texts: list[str] = []
    for source in _docstrings():
        document = ParsedDocument(None, "text/plain", tuple(plain_blocks(normalise(source), Headings())))
        limits = {"max_tokens": 256, "overlap_tokens": 32, "model_limit": files.max_tokens}
        texts += [chunk.text for chunk in split(document, **limits, count_model_tokens=files.tokenizer)]
        if len(texts) >= count:
            return texts[:count]
    raise SystemExit(f"the standard library yields {len(texts)} chunks only")


def _docstrings() -> Iterator[str]:
    """Yield the docstrings of a module as one text, module by module."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        tree = ast.parse(path.read_text(errors="replace"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        text = "\n\n".join(docstring for docstring in found if docstring)
        if text:
            yield text


def _candidates(options: argparse.Namespace, files: ModelFiles) -> dict[str, Embed]:
    prepare_environment()
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(files.folder), device="cpu")

    def as_it_comes(texts: list[str]) -> Any:
        return plain.encode(texts, show_progress_bar=False)

    candidates: dict[str, Embed] = {"plain": as_it_comes}
    for dtype, budget, threads in itertools.product(options.dtypes, options.budgets, options.threads):
        embedder = Embedder.load(dtype=dtype, batch_tokens=int(budget), threads=int(threads))
        candidates[f"{dtype}, {budget} tokens, {threads} threads"] = embedder.embed
    return candidates


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Chunks a second beside plain sentence-transformers; prints JSON.")
    parser.add_argument("--chunks", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    for name, default in (("--dtypes", "bf16"), ("--budgets", "2048"), ("--threads", str(os.cpu_count()))):
        parser.add_argument(name, type=lambda value: value.split(","), default=default.split(","))
    return parser.parse_args()


if __name__ == "__main__":
    main()
