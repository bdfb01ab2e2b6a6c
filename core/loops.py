"""The loops that run in this process, and how many seconds each is late (invariant I10), for metrics.

Only an orderly end takes a loop off the list.
"""

from collections.abc import Callable

Late = Callable[[], float]
_watched: dict[object, tuple[str, Late]] = {}


def watch_loop(name: str, late: Late) -> Callable[[], None]:
    """List a loop, whose `late()` is in seconds; return the function that takes it off the list (twice is fine)."""
    key = object()
    _watched[key] = (name, late)
    return lambda: _watched.pop(key, None) and None


def loops_late() -> dict[str, float]:
    """Return how late each loop is; of loops of one name, the most."""
    found: dict[str, float] = {}
    for name, late in tuple(_watched.values()):
        found[name] = max(late(), found.get(name, 0.0))
    return found
