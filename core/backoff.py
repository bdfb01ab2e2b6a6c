"""Waiting times between tries: exponential with full jitter, bounded."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `base`, `base * factor`, … up to `maximum`, each spread by `jitter` (a fraction, 0 to 1).

    Jitter spreads the retries of tasks that failed together, so that they do not return together (M. Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
    """

    base: float = 1.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: float = 0.2

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after the `failures`-th failure in a row (1 is the first)."""
        exponent = min(max(failures, 1) - 1, 60)
        full = min(self.base * self.factor**exponent, self.maximum)
        return full * (1.0 - self.jitter * random.random())  # noqa: S311 - spreads load, guards nothing
