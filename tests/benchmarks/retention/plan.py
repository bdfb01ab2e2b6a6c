"""How much of everything, and what is kept for how long."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Rows are of each table. Times are in seconds; `rate` is tasks a second, 0: `share` of the saturation measured.

    A kill comes up to `kill_within` after a share of the work was done, both drawn from the seed.
    """

    rows: int = 1_000_000
    held: int = 1_000
    months: int = 12
    kills: int = 30
    kill_within: float = 10.0
    saturate: float = 15.0
    baseline: float = 60.0
    share: float = 0.5
    rate: int = 0
    seconds: float = 3600.0
    workers: int = 1


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
