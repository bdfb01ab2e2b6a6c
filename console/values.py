"""What operators write where a command wants a time or a JSON object."""

import json
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from core.errors import UsageError

SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
"""Units of time, in seconds."""
_SPAN = re.compile(r"(?P<count>\d+(\.\d+)?)(?P<unit>s|min|h|d)?")
# What each reader of a time can hold: docs/data-model.md.
_FIRST_YEAR, _LAST_YEAR = 2, 9998


def payload_of(fields: list[str]) -> dict[str, Any]:
    """Return the payload of `KEY=VALUE` pairs (a value that is JSON is taken as such) or of one JSON object."""
    if not fields:
        return {}
    if len(fields) == 1 and (fields[0] == "-" or fields[0].lstrip().startswith("{")):
        return _object_of(sys.stdin.read() if fields[0] == "-" else fields[0])
    pairs = [field.partition("=") for field in fields]
    if wrong := [key for key, sign, _ in pairs if not (key and sign)]:
        raise UsageError(f"{wrong[0]!r} is neither KEY=VALUE nor a JSON object")
    return {key: _value_of(value) for key, _, value in pairs}


def object_of(text: str) -> dict[str, Any]:
    """Return the JSON object that a text is, that the file `@PATH` holds, or, for `-`, standard input."""
    if not text.startswith("@"):
        return _object_of(sys.stdin.read() if text == "-" else text)
    try:
        return _object_of(Path(text[1:]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{text[1:]!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def span_of(text: str) -> timedelta:
    """Return the span of time that a text names: a number of s, min, h or d; without a unit, seconds."""
    given = _SPAN.fullmatch(text)
    with suppress(OverflowError):
        if given is not None:
            return timedelta(seconds=float(given["count"]) * SECONDS[given["unit"] or "s"])
    raise UsageError(f"{text!r} is no span of time: write 90s, 30min, 2h or 1d")


def moment_of(text: str) -> datetime:
    """Return the time that a text names: ISO 8601 with a zone, or seconds from now."""
    with suppress(ValueError, OverflowError):
        return _in_range(datetime.now(UTC) + timedelta(seconds=float(text)), text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write 2026-01-31T08:00:00+01:00, or seconds from now") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone: write {text}+00:00 or {text}Z")
    return _in_range(moment, text)


def _in_range(moment: datetime, text: str) -> datetime:
    years = range(_FIRST_YEAR, _LAST_YEAR + 1)
    if moment.year not in years or moment.astimezone(UTC).year not in years:
        raise UsageError(f"{text!r} is out of range: write a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return moment


def _object_of(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the payload is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("the payload must be a JSON object")
    return value


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
