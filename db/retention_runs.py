"""Runs of retention policies: begun, worked off page by page, ended. Over `sql/retention_runs.sql`.

For an autocommit connection of the system role, outside of any transaction: each call is a transaction of its own, and
a page holds what it notes of itself. An operator may ask which runs wait for one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import psycopg

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("retention_runs")
Action = Literal["delete", "archive", "roll_up", "drop_partition"]
Cadence = Literal["hourly", "daily", "monthly"]
BeginState = Literal["running", "asking", "busy", "off"]
PageState = Literal["more", "over", "ended", "busy"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one policy, up to a fixed `cutoff`; `table` is `schema.name`. Without a tenant it is of every tenant.

    `rows_planned` it was to take, of which `rows_gone` had gone when it was begun or taken up.
    """

    id: UUID
    policy_id: UUID
    policy_name: str
    action: Action
    table: str
    age_column: str
    cutoff: datetime
    tenant_id: UUID | None
    persona_id: UUID | None
    rows_planned: int = 0
    rows_gone: int = 0


@dataclass(frozen=True, slots=True)
class CameTo:
    """What a run came to so far: rows, and bytes of them, `dependents` by table, `seconds` since it began or in all.

    `dependents` has by table how many `rows` went along and how many `links` were cleared.
    """

    policy: str
    table: str
    action: Action
    status: Literal["running", "asking", "completed", "failed", "cancelled"]
    rows_planned: int | None
    rows_total: int | None
    rows_deleted: int
    rows_archived: int
    rows_held: int
    byte_count: int
    partitions_dropped: list[str]
    dependents: dict[str, dict[str, int]]
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Asking:
    """A run that would take more than its policy's share of a table, and waits for an operator for `seconds`."""

    policy: str
    table: str
    rows_planned: int
    rows_total: int
    seconds: float


def policies(connection: Connection, task_id: UUID, cadence: Cadence | None, names: tuple[str, ...]) -> list[str]:
    """Return the names of the policies that are left for a task: of a cadence, of some names, or all."""
    values = {"task_id": task_id, "cadence": cadence, "names": list(names)}
    return [name for (name,) in QUERIES.run(connection, "policies", values)]


def unknown(connection: Connection, names: tuple[str, ...]) -> list[str]:
    """Return those of some names that no policy has."""
    return [name for (name,) in QUERIES.run(connection, "unknown", {"names": list(names)})]


def cancel_stale(connection: Connection, task_id: UUID) -> int:
    """Give up runs of policies that are off, and those that asked for a week while their policy was changed.

    Returns how many. What another task that lives is at is left to that.
    """
    return QUERIES.count(connection, "cancel_stale", {"task_id": task_id})


def begin(connection: Connection, policy: str, task_id: UUID, *, is_confirmed: bool) -> tuple[UUID | None, BeginState]:
    """Begin a policy's run for a task, or take up one that was broken off; return it, and how that came out.

    `asking`: it waits for an operator, and `is_confirmed` says that one lets it go on; `busy`: another task that lives
    is at it, or the policy is being changed; `off`: it takes nothing.
    """
    values = {"policy": policy, "task_id": task_id, "is_confirmed": is_confirmed}
    [(run_id, state)] = QUERIES.run(connection, "begin", values)
    return run_id, state


def weigh(connection: Connection, run_id: UUID) -> bool:
    """Note what a run is to take, and of how much; False where that is more than its share, and it asks now."""
    [(status,)] = QUERIES.run(connection, "weigh", {"run_id": run_id})
    return bool(status != "asking")


def show(connection: Connection, run_id: UUID) -> Run | None:
    """Return a run; None where its policy is gone."""
    rows = QUERIES.run(connection, "show", {"run_id": run_id})
    return Run(*rows[0]) if rows else None


def page(connection: Connection, run_id: UUID, most: int) -> tuple[int, PageState]:
    """Delete about `most` rows of a run, with what goes along; return how many, and what is left.

    `over`: nothing; `ended`: its policy is off, held, gone or another one, and the run is cancelled; `busy`: somebody
    writes policies, or holds what would go along.
    """
    try:
        [(gone, state)] = QUERIES.run(connection, "page", {"run_id": run_id, "most": most})
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return 0, "busy"
    return int(gone), state


def months_over(connection: Connection, run_id: UUID) -> list[str]:
    """Return the months of a run's table that are over before its cutoff, the oldest first."""
    return [leaf for (leaf,) in QUERIES.run(connection, "months_over", {"run_id": run_id})]


def drop_emptied(connection: Connection, run_id: UUID, leaf: str) -> bool:
    """Drop a month that a roll-up has emptied; False where it is not empty, or in use."""
    [(is_dropped,)] = QUERIES.run(connection, "drop_emptied", {"run_id": run_id, "leaf": leaf})
    return bool(is_dropped)


def end(connection: Connection, run_id: UUID) -> None:
    """End a run of which nothing is left, and count what holds keep of it; one that has ended stays as it is."""
    QUERIES.run(connection, "end", {"run_id": run_id})


def fail(connection: Connection, run_id: UUID, error: str) -> None:
    """End a run that cannot go on."""
    QUERIES.run(connection, "fail", {"run_id": run_id, "error": error})


def of_task(connection: Connection, task_id: UUID) -> list[CameTo]:
    """Return what a task's runs came to, by the names of their policies."""
    return [CameTo(*row) for row in QUERIES.run(connection, "runs_of", {"task_id": task_id})]


def asking(connection: Connection) -> list[Asking]:
    """Return the runs that wait for an operator, the oldest first. An operator may ask, too."""
    return [Asking(*row) for row in QUERIES.run(connection, "asking")]


def waiting_seconds(connection: Connection, own_queue: str) -> float:
    """Return for how long the oldest due task waits that nobody has claimed; those of `own_queue` do not count."""
    [(seconds,)] = QUERIES.run(connection, "waiting", {"own_queue": own_queue})
    return float(seconds)
