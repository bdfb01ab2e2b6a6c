"""A run as a picture: `python -m tests.benchmarks.peers.chart RUN.json > PICTURE.svg`, from what the run wrote.

A panel for each figure, a bar for each leg, longest first where much is good and shortest first where little is. SVG by
hand: some rectangles and words need no library.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

_WIDTH, _NAMES, _BARS, _LINE, _HEAD = 860, 190, 560, 19, 44
_OURS, _PEER, _PLAIN = "#1a7f5a", "#8c9bab", "#c9b458"
_STYLE = "text{font:12px system-ui,sans-serif;fill:#24292f}.h{font-weight:600;font-size:14px}"


@dataclass(frozen=True)
class Panel:
    """A figure of the legs: where it stands in a leg's JSON, and whether much of it is good."""

    title: str
    path: tuple[str, ...]
    is_more_better: bool = True


PANELS = (
    Panel("No-op tasks a second, two worker processes, until visible as done", ("medians", "noop")),
    Panel("Tasks a second that write one row each (hatched: in a transaction of its own)", ("medians", "write")),
    Panel("Enqueued one by one, each committed, a second", ("medians", "enqueue_one")),
    Panel("Enqueued in bulk, calls of 1,000, a second", ("medians", "enqueue_many")),
    Panel("Milliseconds from commit to start, idle, median", ("latency", "idle", "p50_ms"), is_more_better=False),
    Panel("Milliseconds from commit to start, idle, p99", ("latency", "idle", "p99_ms"), is_more_better=False),
)


def chart(run: dict[str, Any]) -> str:
    """Return the picture of a run's JSON."""
    parts: list[str] = []
    top = 0
    for panel in PANELS:
        bars = _bars(run, panel)
        if bars:
            parts += _drawn(panel, bars, top)
            top += _HEAD + _LINE * len(bars)
    machine = run["machine"]
    note = f"{machine['cores']} cores, {machine['processor']}; PostgreSQL {run['servers']['postgres server_version']}"
    parts.append(_text(8, top + 24, f"{note}. Ratios count; absolute figures carry the machine."))
    hatch = '<pattern id="h" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    hatch += '<rect width="2" height="5" fill="#fff" fill-opacity=".55"/></pattern>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 36}" width="{_WIDTH}" role="img">'
        f"<style>{_STYLE}</style><defs>{hatch}</defs>"
        f'<rect width="{_WIDTH}" height="{top + 36}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _bars(run: dict[str, Any], panel: Panel) -> list[tuple[float, dict[str, Any]]]:
    found = [(_figure(leg, panel.path), leg) for leg in run["legs"]]
    bars = [(value, leg) for value, leg in found if value is not None]
    return sorted(bars, key=lambda bar: bar[0], reverse=panel.is_more_better)


def _figure(leg: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = leg
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _drawn(panel: Panel, bars: list[tuple[float, dict[str, Any]]], top: int) -> Iterator[str]:
    longest = max(max(value, 0.0) for value, _ in bars) or 1.0
    yield _text(8, top + 28, panel.title, kind="h")
    for number, (value, leg) in enumerate(bars):
        y = top + _HEAD - 6 + number * _LINE
        width = max(1.0, _BARS * max(value, 0.0) / longest)
        box = f'<rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_LINE - 5}"'
        yield _text(_NAMES - 8, y + 11, leg["leg"], anchor="end")
        yield f'{box} fill="{_colour(leg["leg"])}"/>'
        if panel.path[-1] == "write" and "own" in leg["facts"]["effect"]:
            yield f'{box} fill="url(#h)"/>'
        yield _text(_NAMES + width + 6, y + 11, f"{value:,.0f}" if panel.is_more_better else f"{value:.1f}")


def _colour(name: str) -> str:
    if name.startswith("greenroom"):
        return _OURS
    return _PLAIN if name.startswith("plain") else _PEER


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


if __name__ == "__main__":
    sys.stdout.write(chart(json.loads(Path(sys.argv[1]).read_text())))
