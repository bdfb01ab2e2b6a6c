"""The command: `python -m tests.benchmarks.frameworks`.

From a committed row (Greenroom) or the first call (the frameworks) to the last vector committed, the same texts, model
and Postgres for all, every candidate in a process of its own with a warm model, in another order each round. JSON on
standard output, progress on standard error. Ends with 1 where a goal is missed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from core.errors import GreenroomError
from pipelines.documents.models import find_model
from tests.benchmarks.frameworks.adapters.protocol import Answer, Job
from tests.benchmarks.frameworks.corpus import write_texts
from tests.benchmarks.frameworks.ours import Library, library
from tests.benchmarks.peers.leg import ROOT
from tests.benchmarks.peers.report import machine
from tests.benchmarks.peers.servers import Servers, servers

_TOKENS, _OVERLAP = 256, 32
_PATIENCE = 1800
_GOAL_AS_IT_COMES, _GOAL_AT_EQUAL_DTYPE = 3.0, 1.2
# What memory may have grown by between the second and the last quarter of a long run.
_MOST_GROWTH = 1.05
CAVEATS = (
    "Postgres shares the machine's processor with all of them: ratios count, absolute figures carry the machine",
    "a candidate's time is that of all texts; chunks differ in number since each splits by its own rules",
    "Greenroom parses in a process apart, keeps the text, counts terms for its lexical side and keeps its index up to"
    " date meanwhile; the frameworks write vectors into a table without an index, which is how their stores come",
    "LangChain keeps what it has indexed in memory, not in its table: the faster of its record managers",
)


@dataclass(frozen=True)
class Candidate:
    """Who indexes, and how: `module` is None for Greenroom."""

    name: str
    module: str | None
    dtype: str
    batch: int | None = None


CANDIDATES = (
    Candidate("greenroom", None, "auto"),
    Candidate("greenroom-fp32", None, "fp32"),
    Candidate("llamaindex", "llamaindex", "fp32"),
    Candidate("llamaindex-bf16", "llamaindex", "bf16", 16),
    Candidate("langchain", "langchain", "fp32"),
    Candidate("langchain-bf16", "langchain", "bf16", 16),
)


def main() -> None:
    """Measure, print, judge."""
    options = _options()
    wanted = [each for each in CANDIDATES if not options.only or each.name in options.only.split(",")]
    found: dict[str, list[Answer]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="greenroom-texts-") as folder, servers() as both:
        characters = write_texts(Path(folder), options.texts)
        for number in range(options.rounds):
            for candidate in wanted[number % len(wanted) :] + wanted[: number % len(wanted)]:
                url = both.create(f"round_{number}_{candidate.name.replace('-', '_')}")
                answer = _measure(candidate, url, Path(folder), options.python)
                found[candidate.name].append(answer)
                _tell(f"{candidate.name}: {answer.chunks:,} chunks in {answer.seconds:.1f} s")
        memory = _memory(both, options.memory) if options.memory else None
    results = {name: _summary(answers) for name, answers in found.items()}
    goals = _goals({name: result["median_seconds"] for name, result in results.items()}, memory)
    parameters = {"texts": options.texts, "characters": characters, "rounds": options.rounds, "tokens": _TOKENS}
    run = {"parameters": parameters, "machine": machine(), "results": results, "memory": memory, "goals": goals}
    sys.stdout.write(json.dumps(run | {"caveats": CAVEATS}, indent=2) + "\n")
    sys.exit(0 if all(goal["measured"] >= goal["asked"] for goal in goals.values()) else 1)


def _measure(candidate: Candidate, url: str, folder: Path, python: Path) -> Answer:
    if candidate.module is None:
        with (
            tempfile.TemporaryDirectory(prefix="greenroom-bench-") as home,
            library(Path(home), url, candidate.dtype) as own,
        ):
            return Answer(*own.ingest(_put(own, folder)), versions={})
    split = urlsplit(url)
    job = Job(
        host=parse_qs(split.query)["host"][0],
        user=split.username or "",
        database=split.path.lstrip("/"),
        folder=str(folder),
        model=str(find_model().folder),
        tokens=_TOKENS,
        overlap=_OVERLAP,
        dtype=candidate.dtype,
        batch=candidate.batch,
    )
    module = f"tests.benchmarks.frameworks.adapters.{candidate.module}"
    command = [str(python), "-m", module, json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise SystemExit(f"{candidate.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Answer(**json.loads(done.stdout.splitlines()[-1]))


def _put(own: Library, folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        (own.folder / name).write_bytes((folder / name).read_bytes())
    return names


def _memory(both: Servers, texts: int) -> dict[str, Any]:
    """Ingest for long; return what the process that embeds held, by how many vectors there were."""
    samples: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as home, tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder), texts)
        with library(Path(home), both.create("memory"), "auto") as own:
            names = _put(own, Path(folder))
            chunks, seconds = own.ingest(names, lambda chunks: samples.append((chunks, own.megabytes())))
    quarter = [
        statistics.median(size for at, size in samples if low <= at < low + chunks / 4) for low in _quarters(chunks)
    ]
    _tell(f"{chunks:,} chunks in {seconds:.0f} s, megabytes by quarter: {[round(size) for size in quarter]}")
    peak = max(size for _, size in samples)
    return {
        "chunks": chunks,
        "chunks_a_second": round(chunks / seconds, 1),
        "median_megabytes_by_quarter": [round(size, 1) for size in quarter],
        "peak_megabytes": round(peak, 1),
    }


def _quarters(chunks: int) -> list[float]:
    return [chunks * part / 4 for part in range(4)]


def _summary(answers: list[Answer]) -> dict[str, Any]:
    seconds = [answer.seconds for answer in answers]
    middle = statistics.median(seconds)
    return {
        "chunks": answers[0].chunks,
        "median_seconds": round(middle, 2),
        "seconds": [round(value, 2) for value in seconds],
        "chunks_a_second": round(answers[0].chunks / middle, 1),
        "versions": answers[0].versions,
    }


def _goals(seconds: dict[str, float], memory: dict[str, Any] | None) -> dict[str, Any]:
    """Return what is asked for beside what was measured, where both sides were: the faster of the others counts."""
    found = {}
    if "greenroom" in seconds:
        for name, suffix, asked in (
            ("as it comes", "", _GOAL_AS_IT_COMES),
            ("at equal dtype", "-bf16", _GOAL_AT_EQUAL_DTYPE),
        ):
            others = [seconds[other + suffix] for other in ("llamaindex", "langchain") if other + suffix in seconds]
            if others:
                found[name] = {"asked": asked, "measured": round(min(others) / seconds["greenroom"], 2)}
    if memory is not None:
        first, last = memory["median_megabytes_by_quarter"][1], memory["median_megabytes_by_quarter"][3]
        found["memory stays, second quarter by last"] = {
            "asked": round(1 / _MOST_GROWTH, 3),
            "measured": round(first / last, 3),
        }
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.frameworks", description=__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="some of " + ",".join(each.name for each in CANDIDATES))
    parser.add_argument("--memory", type=int, default=0, help="texts of a long run whose memory is watched")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-frameworks/bin/python")
    options = parser.parse_args()
    if unknown := set((options.only or "").split(",")) - {"", *(each.name for each in CANDIDATES)}:
        raise SystemExit(f"no such candidate: {min(unknown)}")
    return options


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        main()
    except GreenroomError as error:
        raise SystemExit(str(error)) from error
