"""The command: `python -m tests.benchmarks.peers` measures all legs; `make bench-peers` installs the peers first.

JSON on standard output (or in `--out`), progress and the table for people on standard error.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.benchmarks.peers.chart import chart
from tests.benchmarks.peers.leg import ROOT
from tests.benchmarks.peers.legs import LEGS, chosen
from tests.benchmarks.peers.measures import MEASURES, Parameters, Run
from tests.benchmarks.peers.report import as_json, machine, markdown, print_report
from tests.benchmarks.peers.servers import servers


def main() -> None:
    """Measure, print, write."""
    options = _options()
    # By default SIGTERM skips every clean-up: the legs are in sessions of their own and would outlive us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not options.peers_python.exists():
        raise SystemExit(f"{options.peers_python} does not exist: run make bench-peers, which installs the peers")
    try:
        legs = chosen(options.only)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    parameters = Parameters(options.tasks, options.rounds, options.load_cap, _measures(options.measures))
    begun = time.monotonic()
    with servers() as both:
        described = both.describe()
        results = Run(both, options.peers_python, parameters, _tell).measure(legs)
    seconds = round(time.monotonic() - begun)
    run = {"parameters": vars(parameters), "servers": described, "machine": machine(), "seconds": seconds}
    print_report(Console(stderr=True, width=None if sys.stderr.isatty() else 170), results, run)
    _tell(f"{seconds} s in all")
    found = as_json(results, run)
    text = json.dumps(found, indent=2, default=str) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        sys.stdout.write(text)
    if options.markdown:
        options.markdown.write_text(markdown(results))
    if options.chart:
        options.chart.write_text(chart(found))


def _measures(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := sorted(set(names) - set(MEASURES)):
        raise SystemExit(f"no such measure: {unknown[0]}; known are {', '.join(MEASURES)}")
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.peers", description=__doc__)
    names = ", ".join(leg.name for leg in LEGS)
    parser.add_argument("--only", help=f"these peers or legs, with commas: {names}")
    parser.add_argument("--tasks", type=int, default=40_000, help="tasks a round of a fast leg; slow ones get a share")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, alternating; medians are reported")
    parser.add_argument("--measures", default=",".join(MEASURES), help="some of " + ",".join(MEASURES))
    parser.add_argument("--load-cap", type=int, default=2000, help="bound of the half load, tasks a second")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of printing it")
    parser.add_argument("--markdown", type=Path, help="write the table into this file, for a page of the documents")
    parser.add_argument("--chart", type=Path, help="draw the figures into this file, as SVG")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python")
    return parser.parse_args()


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
