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
        self._lock = threading.RLock()

    def provide(self, kind: type[R], factory: Callable[[], R]) -> None:
        """Say how `kind` is made; a second factory for one type is refused."""
        if kind in self._factories:
            raise RegistrationError(f"resource {kind.__name__} is provided twice")
        self._factories[kind] = factory

    def get(self, kind: type[R]) -> R:
        """Return the process's instance of `kind`, made now if it is the first call."""
        with self._lock:
            if kind not in self._made:
                if kind not in self._factories:
                    raise RegistrationError(f"no task module provides the resource {kind.__name__}")
                self._made[kind] = self._factories[kind]()
            made: R = self._made[kind]
            return made

    def close(self) -> None:
        """Close what has a `close`, in the reverse order of its making."""
        with self._lock:
            for made in reversed(list(self._made.values())):
                if callable(close := getattr(made, "close", None)):
                    close()
            self._made.clear()
