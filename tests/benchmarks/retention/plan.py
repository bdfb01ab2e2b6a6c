"""How much of everything, and what is kept for how long."""

from dataclasses import dataclass, field
from typing import Any


def _of(default: Any, words: str) -> Any:
    """A field with what the command says of it."""
    return field(default=default, metadata={"words": words})


@dataclass(frozen=True)
class Plan:
    """Times are in seconds."""

    rows: int = _of(1_000_000, "aged rows of tasks, and as many of messages")
    held: int = _of(1_000, "held rows beside them, of each")
    months: int = _of(12, "months that they are spread over")
    kills: int = _of(30, "SIGKILLs of the worker that retains, each after a share of the work that is drawn")
    kill_within: float = _of(10.0, "seconds from that share to the kill, at most")
    saturate: float = _of(15.0, "seconds for which the saturation is measured")
    baseline: float = _of(60.0, "seconds of load before retention begins")
    share: float = _of(0.5, "share of the saturation that the queue works at")
    rate: int = _of(0, "tasks a second; 0: that share")
    seconds: float = _of(3600.0, "seconds that retention may take")
    workers: int = _of(1, "worker processes of the queue")


QUICK = Plan(
    rows=20_000, held=100, months=2, kills=5, kill_within=0.8, saturate=2.0, baseline=3.0, share=0.1, seconds=120.0
)


@dataclass(frozen=True)
class Kept:
    """A table that is retained: its name, the column of its age, the policy that archives it, its part of the book."""

    relation: str
    age_column: str
    policy: str
    book: str


TASKS = Kept("queue.tasks_history", "completed_at", "tasks", "tasks")
MESSAGES = Kept("assistants.messages", "created_at", "messages", "messages")
KEPT = (TASKS, MESSAGES)
