"""All that the command line prints: tables and lines for people, JSON for programs.

Invariants: answers go to standard output, everything else to standard error; no control character of a document, a name
or an error reaches a terminal; secrets print as stars.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from pydantic import SecretStr

if TYPE_CHECKING:
    from rich.console import Console

MASK = "**********"
MARK_START, MARK_STOP = "\x02", "\x03"
_MARKED = re.compile(f"({MARK_START}[^{MARK_STOP}]*{MARK_STOP})")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Where no terminal says how wide it is, rows stay whole.
_WIDE = 240


@dataclass(frozen=True, slots=True)
class Alarming:
    """A cell of a table that stands out where the output can; ▲ tells it where it cannot."""

    text: str

    def __str__(self) -> str:
        return f"▲ {self.text}"


def show_json(value: Any) -> None:
    """Print a value as JSON; times are ISO 8601, ids are texts."""
    # ASCII only: escapes carry what a terminal must not see and what UTF-8 cannot hold.
    _write(sys.stdout, json.dumps(value, indent=2, default=_plain))


def show_json_line(value: Any) -> None:
    """Print a value as one line of JSON, for answers that go on."""
    _write(sys.stdout, json.dumps(value, default=_plain))


def show_line(text: str = "") -> None:
    """Print one line of an answer."""
    _write(sys.stdout, clean(text))


def note(text: str) -> None:
    """Print a line that is not the answer, on standard error."""
    _write(sys.stderr, clean(text))


def show_error(text: str) -> None:
    """Print what went wrong as one line on standard error."""
    note("greenroom: " + " ".join(text.split()))


def show_traceback(text: str) -> None:
    """Print a traceback, which only --debug asks for."""
    _write(sys.stderr, clean(text))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "nothing to show") -> None:
    """Print rows as a table; a column whose name begins with `#` holds numbers."""
    listed = list(rows)
    if not listed:
        show_line(empty)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if is_number else "left", overflow="fold")
    for cells in listed:
        table.add_row(*(Text(" ".join(cell(value).split()), _style(value)) for value in cells))
    terminal(sys.stdout).print(table)


def show_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Print names and values, one a line, the names aligned; what is None or empty is left out."""
    shown = [(name, cell(value)) for name, value in fields if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        show_line(f"{name.ljust(width)}  {value}")


def show_hit(heading: str, text: str) -> None:
    """Print one hit of a search; what stands between U+0002 and U+0003 stands out where the output can."""
    from rich.padding import Padding
    from rich.text import Text

    console = terminal(sys.stdout)
    console.print(Text(clean(heading), style="bold"))
    body = Text()
    for part in _MARKED.split(" ".join(text.split())):
        marked = part.startswith(MARK_START)
        body.append(clean(part.strip(MARK_START + MARK_STOP)), style="bold yellow" if marked else "")
    console.print(Padding(body, (0, 0, 0, 3), expand=False))


def terminal(stream: IO[str]) -> "Console":
    """Return a rich console over a stream, which adds nothing of its own to what is printed."""
    from rich.console import Console

    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def clean(text: str) -> str:
    """Return a text without control characters and unpaired surrogates."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def mask_url(url: str) -> str:
    """Return an address with its password as stars."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{MASK}@{host}"))


def masked(payload: Any, secret_fields: list[str] | None) -> Any:
    """Return a payload as it may be shown; of a type that nobody published, all values are stars."""
    if not isinstance(payload, dict):
        return MASK if secret_fields is None else payload
    secret = set(payload) if secret_fields is None else set(secret_fields)
    return {name: MASK if name in secret else value for name, value in payload.items()}


def ago(moment: datetime | None) -> str:
    """Return how long ago a moment was, roughly."""
    return "" if moment is None else duration((datetime.now(moment.tzinfo) - moment).total_seconds())


def duration(seconds: float) -> str:
    """Return a time span in its largest fitting unit; one in the future has a minus."""
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if rest >= 2 * size:
            return f"{sign}{rest / size:.0f} {unit}"
    return f"{sign}{rest:.0f} s"


def size(count: int | None) -> str:
    """Return a number of bytes in its largest fitting unit."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def silence() -> None:
    """Stop printing: whoever read our output has gone (`greenroom tasks list | head -1`)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def _write(stream: IO[str], text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def cell(value: Any) -> str:
    """Return a value as one text for people."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case str() | Alarming():
            return clean(str(value))
        case _:
            plain = _plain(value) if not isinstance(value, int | list | dict) else value
            return clean(plain if isinstance(plain, str) else json.dumps(plain, default=_plain, ensure_ascii=False))


def _style(value: Any) -> str:
    return "bold red" if isinstance(value, Alarming) else ""


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case SecretStr():
            return MASK
        case bytes() | memoryview():
            return bytes(value).hex()
        case UUID() | Path():
            return str(value)
        case Decimal():
            return float(value)
        case _:
            raise TypeError(f"no JSON form of {type(value).__name__}")
