"""The loops that run in this process, and how long ago each did a round that ended well (invariant I10).

A loop that dies stays listed and its age grows: that is how it is seen. Only an orderly end takes it off the list.
"""

from collections.abc import Callable

Age = Callable[[], float]
_watched: dict[object, tuple[str, Age]] = {}


def watch_loop(name: str, age: Age) -> Callable[[], None]:
    """List a loop, whose `age()` is in seconds; return the function that takes it off the list (twice is fine)."""
    key = object()
    _watched[key] = (name, age)
    return lambda: _watched.pop(key, None) and None


def loop_ages() -> dict[str, float]:
    """Return the age of each loop; of loops of one name, the greatest."""
    ages: dict[str, float] = {}
    for name, age in tuple(_watched.values()):
        ages[name] = max(age(), ages.get(name, 0.0))
    return ages
