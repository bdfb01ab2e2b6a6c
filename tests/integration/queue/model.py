"""The model of one task that the state machine (machine.py) compares with its row: docs/state-machine.md in Python."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

_LIVE = ("pending", "in_progress")


@dataclass
class Model:
    """What a task's row has to say. `is_over` is of its claim while it is pending, of its lease while it runs.

    `is_unwanted`: it was asked to end while it ran, and does when its attempt is over.
    """

    key: str | None = None
    status: str = "pending"
    attempts: int = 0
    snoozes: int = 0
    claim_number: int = 0
    worker_id: UUID | None = None
    is_claimed: bool = False
    is_over: bool = False
    is_deferred: bool = False
    is_given_up: bool = False
    is_unwanted: bool = False
    recorded: Counter[str] = field(default_factory=Counter)

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in _LIVE

    def start(self, worker_id: UUID) -> None:
        """Let a worker have it."""
        self.status, self.worker_id, self.is_claimed, self.is_over = "in_progress", worker_id, False, False
        self.attempts += 1

    def wait(self, outcome: str | None = None, *, counts: bool = True) -> None:
        """Let it wait again, or end if that was asked for; an attempt that does not count is taken back."""
        self.status, self.worker_id, self.is_over, self.is_given_up = "pending", None, False, False
        self.attempts -= not counts
        if outcome:
            self.recorded[outcome] += 1
        if self.is_unwanted:
            self.end("cancelled")

    def end(self, status: str) -> None:
        """Let it end."""
        self.status, self.is_claimed, self.is_unwanted = status, False, False
