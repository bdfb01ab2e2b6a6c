"""How many tasks a second a layout claims, takes and finishes, and what that costs in WAL and vacuum."""

from concurrent.futures import ProcessPoolExecutor

from tests.benchmarks.queue_layout.bench import Bench, Json, medians
from tests.benchmarks.queue_layout.candidates import LAYOUTS
from tests.benchmarks.queue_layout.engine import drained


def measure_throughput(bench: Bench) -> Json:
    """Claim, take, finish: empty history against full, in alternating rounds."""
    seen: dict[str, list[Json]] = {}
    with ProcessPoolExecutor(bench.processes) as pool:
        for _ in range(bench.rounds):
            for name in bench.layouts:
                for full in (False, True):
                    figures = drained(bench, pool, LAYOUTS[name], LAYOUTS[name].schema(full=full))
                    seen.setdefault(f"{name} {'full' if full else 'empty'}", []).append(figures)
    return {key: medians(rounds) for key, rounds in seen.items()}
