"""Progress of a few stages: bars on a terminal, elsewhere a line for each step that is worth one."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from console.output import note, terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_SECONDS = 2.0


class Stages:
    """Shows how many of `total` have passed each stage, on standard error. `quiet` shows nothing."""

    def __init__(self, names: Sequence[str], total: int, *, quiet: bool = False) -> None:
        self._total = total
        self._done = dict.fromkeys(names, 0)
        self._is_quiet = quiet or total == 0
        self._bars: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._said_at = 0.0

    def __enter__(self) -> Self:
        if not self._is_quiet and sys.stderr.isatty():
            self._open_bars()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def reach(self, name: str, done: int) -> None:
        """Say that `done` of all have passed a stage."""
        if self._is_quiet or done == self._done[name]:
            return
        self._done[name] = done
        if self._bars is not None:
            self._bars.update(self._rows[name], completed=done)
        elif done == self._total or time.monotonic() >= self._said_at + _LINE_SECONDS:
            self._said_at = time.monotonic()
            note(f"{name}: {done} of {self._total}")

    def _open_bars(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=terminal(sys.stderr))
        self._rows = {name: self._bars.add_task(name, total=self._total) for name in self._done}
        self._bars.start()
