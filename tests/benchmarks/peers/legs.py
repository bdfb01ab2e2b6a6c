"""Who takes part. A leg is a peer in one variant; `tuned` is its best documented settings, `default` as it comes."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Leg:
    """A peer in one variant.

    `share` of the tasks asked for is what this leg gets, so that slow peers take no longer than fast ones;
    `processes` are the parts that `Adapter.work` is told; `is_ours` runs in our interpreter, not the peers'.
    """

    peer: str
    variant: str
    store: Literal["postgres", "redis"]
    share: float
    processes: tuple[str, ...] = ("worker", "worker")
    is_ours: bool = False

    @property
    def name(self) -> str:
        """What the command line and the report call it."""
        return f"{self.peer}-{self.variant}"


LEGS = (
    Leg("plain", "psycopg", "postgres", 2.0),
    Leg("greenroom", "engines", "postgres", 1.0, ("engine", "engine"), is_ours=True),
    Leg("greenroom", "redis", "postgres", 1.0, ("relay", "worker", "worker"), is_ours=True),
    Leg("pgqueuer", "tuned", "postgres", 1.0),
    Leg("pgqueuer", "default", "postgres", 0.5),
    Leg("awa", "tuned", "postgres", 0.5),
    Leg("awa", "default", "postgres", 0.2),
    Leg("chancy", "tuned", "postgres", 0.25),
    Leg("procrastinate", "tuned", "postgres", 0.04),
    Leg("procrastinate", "default", "postgres", 0.04),
    Leg("saq", "tuned", "redis", 0.2),
    Leg("saq", "default", "redis", 0.2),
    Leg("huey", "tuned", "redis", 0.2),
    Leg("dramatiq", "tuned", "redis", 0.3),
    Leg("dramatiq", "default", "redis", 0.2),
    Leg("celery", "tuned", "redis", 0.1),
    Leg("celery", "default", "redis", 0.05, ("worker",)),
)


def chosen(only: str | None) -> list[Leg]:
    """Return the legs that `only` names, by peer or by full name, with commas; all for None. Unknown: ValueError."""
    if only is None:
        return list(LEGS)
    names = [part.strip() for part in only.split(",") if part.strip()]
    known = {leg.name for leg in LEGS} | {leg.peer for leg in LEGS}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"no such leg: {unknown[0]}; known are {', '.join(sorted(known))}")
    return [leg for leg in LEGS if leg.name in names or leg.peer in names]
