"""What operators write where a command wants a time or a JSON object."""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from core.errors import UsageError


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


def moment_of(text: str) -> datetime:
    """Return the time that a text names: ISO 8601 with a zone, or seconds from now."""
    try:
        return datetime.now(UTC) + timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write 2026-01-31T08:00:00+01:00, or seconds from now") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone: write {text}+00:00 or {text}Z")
    return moment


def _object_of(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the payload is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("the payload must be a JSON object")
    return value


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
