"""What handlers share within a worker process: models, parsers, storages. Made at first use, closed at the end."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from core.errors import RegistrationError

R = TypeVar("R")


class Resources:
    """One instance of each type a process, made by the factory that a task module provided."""

    def __init__(self) -> None:
        self._factories: dict[type[Any], Callable[[], Any]] = {}
        self._made: dict[type[Any], Any] = {}
        # One lock a type: whoever needs a tokenizer does not wait for a model that another thread loads.
        self._locks: dict[type[Any], threading.RLock] = {}

    def provide(self, kind: type[R], factory: Callable[[], R]) -> None:
        """Say how `kind` is made; a second factory for one type is refused."""
        if kind in self._factories:
            raise RegistrationError(f"resource {kind.__name__} is provided twice")
        self._factories[kind] = factory
        self._locks[kind] = threading.RLock()

    def get(self, kind: type[R]) -> R:
        """Return the process's instance of `kind`, made now if it is the first call."""
        if kind not in self._factories:
            raise RegistrationError(f"no task module provides the resource {kind.__name__}")
        with self._locks[kind]:
            if kind not in self._made:
                self._made[kind] = self._factories[kind]()
            made: R = self._made[kind]
            return made

    def close(self) -> None:
        """Close what has a `close`, in the reverse order of its making."""
        for made in reversed(list(self._made.values())):
            if callable(close := getattr(made, "close", None)):
                close()
        self._made.clear()
