"""The command: builds what is missing, measures, writes parameters and results as JSON."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from tests.benchmarks.queue_layout.bench import Bench, Json, one
from tests.benchmarks.queue_layout.building import prepare
from tests.benchmarks.queue_layout.candidates import LAYOUTS
from tests.benchmarks.queue_layout.deferred import measure_deferred
from tests.benchmarks.queue_layout.inserts import measure_inserts
from tests.benchmarks.queue_layout.locks import measure_locks
from tests.benchmarks.queue_layout.races import measure_races
from tests.benchmarks.queue_layout.reads import measure_reads, measure_widths
from tests.benchmarks.queue_layout.security import measure_security
from tests.benchmarks.queue_layout.storage import measure_renewals, measure_storage
from tests.benchmarks.queue_layout.throughput import measure_throughput

MEASURES: dict[str, Callable[[Bench], Json]] = {
    "throughput": measure_throughput,
    "inserts": measure_inserts,
    "deferred": measure_deferred,
    "races": measure_races,
    "reads": measure_reads,
    "security": measure_security,
    "widths": measure_widths,
    "storage": measure_storage,
    "renewals": measure_renewals,
    "locks": measure_locks,  # last: it drops partitions of the full history
}


def main() -> None:
    """Measure and print."""
    options = vars(_options())
    measures, rebuild = options.pop("measures"), options.pop("rebuild")
    bench = Bench(**options)
    prepare(bench, rebuild=rebuild)
    with bench.connect("public") as conn:
        server = one(conn, "SELECT version()")
    parameters = {k: v for k, v in asdict(bench).items() if k != "dsn"} | {"server": server}
    results = {}
    for name in measures:
        begin = time.monotonic()
        results[name] = MEASURES[name](bench)
        sys.stderr.write(f"{name}: {time.monotonic() - begin:.0f} s\n")
    json.dump({"parameters": parameters, "results": results}, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True, help="a superuser's address of a scratch database")
    parser.add_argument("--rows", type=int, default=10_000_000, help="finished tasks a layout")
    parser.add_argument("--seconds", type=float, default=5, help="of each timed load")
    parser.add_argument("--tasks", type=int, default=150_000, help="drained in each round")
    parser.add_argument("--deferred", type=int, default=1_000_000, help="tasks not yet due, beside the drained ones")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--history-days", type=int, default=90)
    parser.add_argument("--partition-days", type=int, default=7)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--rebuild", action="store_true", help="fill anew instead of keeping")
    return parser.parse_args()


if __name__ == "__main__":
    main()
