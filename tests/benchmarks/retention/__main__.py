"""The command: `python -m tests.benchmarks.retention`.

A line of figures for people on standard error, JSON on standard output (or in `--out`). Exit status 1 where a row was
lost, doubled or changed, or where the 99th of 100 claims waited more than twice as long as before.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from db.embedded import EmbeddedServer
from tests.benchmarks.peers.report import machine
from tests.benchmarks.retention.dropping import drop
from tests.benchmarks.retention.plan import QUICK, Plan
from tests.benchmarks.retention.trial import Trial
from tests.faults.forkserver import close_servers
from tests.faults.rig import Rig, rig
from tests.support.database import migrate_template
from tests.support.redis_server import redis_server

PARTS = ("load", "drop")
CAVEATS = (
    "producer, relay, workers and Postgres share the processor: ratios count, absolute figures carry the machine",
    "Postgres commits durably and vacuums by itself; all processes have shipped settings but for short leases",
    "latency is from due to start, by Postgres' clock, of all tasks that came in the time",
)
_LIMIT = 2.0


def main() -> None:
    """Measure, print, judge."""
    options = _options()
    # By default SIGTERM skips every clean-up: the processes are in sessions of their own and would outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = QUICK if options.quick else Plan()
    given = {each.name: getattr(options, each.name) for each in fields(Plan)}
    plan = Plan(**(asdict(base) | {name: value for name, value in given.items() if value is not None}))
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    if unknown := sorted(set(parts) - set(PARTS)):
        raise SystemExit(f"no such part: {unknown[0]}; known are {', '.join(PARTS)}")
    with _rig() as running:
        results, is_good = _measure(running, plan, parts, options)
    run = {"parameters": asdict(plan), "machine": machine(), "results": results, "caveats": CAVEATS}
    text = json.dumps(run, indent=2, default=str) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)
    sys.exit(0 if is_good else 1)


def _measure(running: Rig, plan: Plan, parts: list[str], options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    results: dict[str, Any] = {}
    is_good = True
    if "load" in parts:
        found = Trial(running, plan, options.seed, _tell).run()
        results["load"] = found.as_json()
        _tell("\n".join([found.line(), *found.complaints]))
        is_good = not found.complaints and found.ratio <= _LIMIT
    if "drop" in parts:
        results["drop"] = drop(running.database, _tell, quick=options.quick)
    return results, is_good


@contextmanager
def _rig() -> Iterator[Rig]:
    """Servers of the run's own, in a temporary folder."""
    with ExitStack() as stack:
        stack.callback(close_servers)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gr-retention-")))
        server = stack.enter_context(EmbeddedServer(home, {"log_min_messages": "error"}))
        redis_url = stack.enter_context(redis_server())
        yield stack.enter_context(rig(server, home, migrate_template(server), redis_url))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.retention", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small figures: does it run, not what does it show")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of printing it")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="repeats the kills")
    for each in fields(Plan):
        flag, words = f"--{each.name.replace('_', '-')}", each.metadata["words"]
        parser.add_argument(flag, type=type(each.default), help=f"{words}; {each.default:,}, less with --quick")
    return parser.parse_args()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
