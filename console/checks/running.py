"""How checks are run: side by side where they look at different places, each for so long and no longer."""

import queue
import threading
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import psycopg

from console.checks.findings import Check, Finding, Level, Sight
from console.checks.registry import CHECKS
from core.errors import GreenroomError
from db import health
from db.queries import is_unavailable, unavailable

_Found = dict[str, list[Finding]]


def chosen(*, is_own: bool, is_deep: bool) -> list[Check]:
    """Return the checks of a host's own health, or all; deep ones when they are asked for."""
    return [check for check in CHECKS if (check.is_own or not is_own) and (is_deep or not check.is_deep)]


def look(sight: Sight, checks: Sequence[Check]) -> list[Finding]:
    """Make the checks and return what they found, in their order. Raises nothing, and ends.

    Those that need the database are made one by one over one connection, the others each in a thread beside them.
    """
    found: _Found = {}
    lanes = [[check for check in checks if check.needs != "nothing"]]
    lanes += [[check] for check in checks if check.needs == "nothing"]
    threads = [threading.Thread(target=_make, args=(sight, lane, found), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left_out = sum(check.name not in found for check in checks)
    told = [finding for check in checks for finding in found.get(check.name, ())]
    if left_out:
        told.append(Finding("left out", "warning", f"{left_out} checks were not made: mend the database first"))
    return told


def _make(sight: Sight, checks: Iterable[Check], found: _Found) -> None:
    """Make checks one after the other; those are left out that need what was found to be missing."""
    for check in checks:
        if _can_be_made(sight, check):
            found[check.name] = _in_time(sight, check)


def _can_be_made(sight: Sight, check: Check) -> bool:
    return check.needs == "nothing" or (sight.has_server and (check.needs == "server" or sight.has_schema))


def _in_time(sight: Sight, check: Check) -> list[Finding]:
    """Make a check in a thread of its own, which is left behind if it does not come back: nothing can end it."""
    seconds = sight.bounds.deep_look if check.is_deep else sight.bounds.look
    box: queue.SimpleQueue[list[Finding]] = queue.SimpleQueue()
    threading.Thread(target=lambda: box.put(_made(sight, check)), name=check.name, daemon=True).start()
    try:
        return box.get(timeout=seconds)
    except queue.Empty:
        if check.needs != "nothing":
            sight.lose()
        return [Finding(check.name, "wrong", f"it did not come back within {seconds:g} s: what it looks at hangs")]


def _made(sight: Sight, check: Check) -> list[Finding]:
    """Return what a check finds; what it raises is found, too."""
    try:
        if check.needs == "nothing":
            return list(check.look(sight))
        with health.bounded(sight.connection, sight.bounds.answer):
            return list(check.look(sight))
    except Exception as error:  # whatever it is, the other checks are made
        return [Finding(check.name, *_judged(error))]


def _judged(error: Exception) -> tuple[Level, str]:
    """Return what an error says of what was looked at, without what it may repeat of addresses and values."""
    if isinstance(error, GreenroomError):
        return "wrong", str(error)
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "wrong", "Postgres took too long: somebody holds a lock, or it is overloaded: see pg_stat_activity"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "warning", "this login may not look: run `greenroom doctor` with the operator's or the owner's"
    if isinstance(error, psycopg.Error) and is_unavailable(error):
        return "wrong", str(unavailable(error))
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    [*_, last] = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}:{last.lineno}"
    return "wrong", f"it could not be looked at ({told or type(error).__name__}, {where}): report it"
