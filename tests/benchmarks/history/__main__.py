"""The command: `python -m tests.benchmarks.history`.

JSON on standard output (or in `--out`), progress on standard error.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import psycopg

from core.errors import GreenroomError
from tests.benchmarks.history.alternating import deferred, finished
from tests.benchmarks.history.lasting import held, steady
from tests.benchmarks.history.subject import QUICK, Json, Parameters, Tell
from tests.benchmarks.history.weight import weight
from tests.benchmarks.peers.leg import LegError
from tests.benchmarks.peers.report import machine
from tests.benchmarks.peers.servers import Servers, servers

PARTS: dict[str, Callable[[Servers, Parameters, Tell], Json]] = {
    "finished": finished,
    "deferred": deferred,
    "held": held,
    "steady": steady,
    "weight": weight,
}
CAVEATS = (
    "producers, engines and Postgres share the machine's processor: ratios count, absolute figures carry the machine",
    "two engines in process with shipped settings; Postgres commits durably and vacuums by itself as it comes",
    "finished tasks are spread over the 90 days before, with their indexes; alternating rounds add theirs to both",
    "a window is a round: tasks are enqueued while the engines stand, then the engines are started and timed",
    "statements are counted in the server's log; BEGIN, COMMIT and SET count in 'all'",
    "megabytes are resident ones, which count what processes share in each of them",
)


def main() -> None:
    """Measure, print."""
    options = _options()
    # By default SIGTERM skips every clean-up: the engines are in sessions of their own and would outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    base = QUICK if options.quick else Parameters()
    given = {field.name: getattr(options, field.name) for field in fields(Parameters)}
    parameters = Parameters(**(asdict(base) | {name: value for name, value in given.items() if value is not None}))
    parts = _parts(options.parts)
    with servers() as both:
        described = both.describe()
        results = {name: _measured(name, both, parameters) for name in parts}
    run = {"parameters": asdict(parameters), "servers": described, "machine": machine(), "results": results}
    text = json.dumps(run | {"caveats": CAVEATS}, indent=2, default=str) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)


def _measured(name: str, both: Servers, parameters: Parameters) -> Json:
    """Return a part's figures, or why there are none: the others go on."""
    begun = time.monotonic()
    _tell(f"{name}:")
    try:
        found = PARTS[name](both, parameters, _tell)
    except (LegError, GreenroomError, psycopg.Error, AssertionError) as error:
        _tell(f"{name} FAILED: {error}")
        found = {"error": f"{type(error).__name__}: {error}"}
    return found | {"seconds": round(time.monotonic() - begun)}


def _parts(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := sorted(set(names) - PARTS.keys()):
        raise SystemExit(f"no such part: {unknown[0]}; known are {', '.join(PARTS)}")
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.history", description=__doc__)
    usual = Parameters()
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small figures: does it run, not what does it show")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of printing it")
    for name, words in {
        "tasks": "no-op tasks a round",
        "rounds": "rounds, alternating; before and after the open transaction as many",
        "finished": "finished tasks in history",
        "deferred": "tasks due in the future",
        "held": "seconds for which the transaction stays open",
        "steady": "seconds of steady load",
        "rate": "tasks a second of the steady load",
        "sample": "seconds between samples of it",
        "idle": "seconds for which processes stand idle",
    }.items():
        default = getattr(usual, name)
        parser.add_argument(f"--{name}", type=type(default), help=f"{words}; {default:,}, less with --quick")
    return parser.parse_args()


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
