"""Follow one task to its end: on a terminal a line that changes, elsewhere a line for each change."""

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import UUID

from console import output
from console.runtime import Operation
from core.errors import GreenroomError, NotFoundError
from db import tasks

if TYPE_CHECKING:
    from rich.live import Live

_PAUSES = (0.1, 0.5)
_BAR = 30
_PATIENCE_SECONDS = 30 * 86_400.0
_TOLD = (
    "id", "task_type", "status", "attempts", "max_attempts", "progress", "progress_message", "hold_reason",
    "last_error", "cancel_requested_at", "started_at", "completed_at",
)  # fmt: skip


def watch(operation: Operation, task_id: UUID, *, as_json: bool) -> tasks.TaskDetail:
    """Show each change of a task until it has ended; return it as it is then. Raises NotFoundError."""
    shortest, longest = _PAUSES
    pause, told = shortest, dict[str, Any]()
    with ExitStack() as stack:
        live = None if as_json or not sys.stdout.isatty() else stack.enter_context(_live())
        while True:
            found = tasks.show(operation.connection, task_id)
            if found is None:
                raise NotFoundError(f"no task has the id {task_id}: see `greenroom tasks list`")
            now = {name: getattr(found, name) for name in _TOLD}
            if now != told:
                _tell(found, now, live, as_json=as_json)
                told, pause = now, shortest
            if found.completed_at is not None:
                return found
            time.sleep(pause)
            pause = min(pause * 1.5, longest)


def follow(operation: Operation, task_id: UUID, failure: str, *, quiet: bool) -> Any:
    """Wait for the end of a task that may take days, and show how far it is unless `quiet`; return its result.

    Raises GreenroomError, which begins with `failure`, where it is not done.
    """
    from pipelines.waiting import wait_for

    if not quiet:
        watch(operation, task_id, as_json=False)
    end = wait_for(operation.connection, task_id, timeout=_PATIENCE_SECONDS)
    if end.status != "done":
        raise GreenroomError(f"{failure}: {end.error or end.status}")
    return end.result


def state_of(found: tasks.TaskDetail) -> str:
    """Return how a task stands, in one line."""
    parts = [found.status, f"attempt {found.attempts} of {found.max_attempts}"]
    # one that works by and by waits most of its time
    if found.completed_at is None and found.progress is not None:
        done = round(found.progress * _BAR)
        parts.append(f"[{'#' * done}{'.' * (_BAR - done)}] {found.progress:.0%}")
        parts.append(found.progress_message or "")
    if found.cancel_requested_at is not None and found.completed_at is None:
        parts.append("asked to end")
    if found.hold_reason:
        parts.append(f"held: {found.hold_reason}")
    if found.last_error and found.status != "in_progress":
        parts.append(found.last_error)
    return "  ".join(" ".join(part.split()) for part in parts if part)


def _tell(found: tasks.TaskDetail, now: dict[str, Any], live: "Live | None", *, as_json: bool) -> None:
    if as_json:
        output.show_json_line(now)
    elif live is None:
        output.show_line(state_of(found))
    else:
        from rich.text import Text

        live.update(Text(output.clean(state_of(found))), refresh=True)


def _live() -> "Live":
    from rich.live import Live

    return Live(console=output.terminal(sys.stdout), auto_refresh=False)
