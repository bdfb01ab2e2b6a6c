"""The layouts that are compared. Their SQL stands in `sql/`: `common.sql` for all, then a file each."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from psycopg import sql

_FOLDER = Path(__file__).with_name("sql")


@dataclass(frozen=True)
class Layout:
    """A candidate: the file of its schema, where its rows stand, how it finishes a task."""

    name: str
    file: str
    live: str
    history: str
    finish: str

    @property
    def is_partitioned(self) -> bool:
        return self.history != self.live

    def statement(self, name: str) -> sql.Composed:
        """Return a named statement with the names of this layout's relations in it."""
        text = {**_sections("common.sql"), **_sections(self.file)}[name]
        return text.format(live=sql.Identifier(self.live), history=sql.Identifier(self.history))

    def schema(self, *, full: bool) -> str:
        """Return the schema that has this layout's tables, with history or without."""
        return f"layout_{self.file[0]}_{'full' if full else 'empty'}"


LAYOUTS = {
    "A": Layout("A", "a.sql", "tasks_live", "tasks_history", "finish_by_move"),
    "A2": Layout("A2", "a.sql", "tasks_live", "tasks_history", "finish_by_update"),
    "B": Layout("B", "b.sql", "tasks_live", "tasks_history", "finish_by_move"),
    "C": Layout("C", "c.sql", "outbox_tasks", "outbox_tasks", "finish_in_place"),
}


@cache
def _sections(file: str) -> dict[str, sql.SQL]:
    """Read the statements of a file by their `-- name:` lines."""
    parts = re.split(r"^-- name: (\w+)$", (_FOLDER / file).read_text(), flags=re.MULTILINE)[1:]
    return {name: sql.SQL(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
