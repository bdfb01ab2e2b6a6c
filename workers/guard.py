"""The cursor of worker connections: a handler's SQL cannot end the transaction that is not its own.

Two halves: the first word of a statement is looked at, and one call is one statement, because the extended protocol
takes no more than one. Procedures and DO blocks that commit are refused by Postgres itself inside a transaction.
"""

import re
from typing import Any

import psycopg
from psycopg import sql

from core.errors import PermanentError

_ENDS = re.compile(
    rb"(commit|rollback(?!\s+(work\s+|transaction\s+)?to\b)|abort|end|begin|start\s+transaction|prepare\s+transaction"
    rb"|set\s+(?!local\b|transaction\b|constraints\b)|reset|discard|listen)(\b|(?<=\s))",
    re.I,
)
_BLANK = re.compile(rb"(?:[\s;]+|--[^\n]*(?:\n|\Z))+")
_REMARK_EDGE = re.compile(rb"/\*|\*/")


class GuardedCursor(psycopg.Cursor[Any]):
    """Refuses statements that begin or end transactions; psycopg's own `transaction()` does not pass here."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "GuardedCursor":
        """Run a statement; raises PermanentError for one that would end the worker's transaction."""
        self._refuse_endings(query)
        super().execute(query, params, **options)
        return self

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Run a statement for each set of parameters; raises as `execute` does."""
        self._refuse_endings(query)
        super().executemany(query, params_seq, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement row by row; raises as `execute` does."""
        self._refuse_endings(query)
        return super().stream(query, params, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """Start a COPY; raises as `execute` does."""
        self._refuse_endings(statement)
        return super().copy(statement, params, **options)

    # Effects are sent without waiting for what the server says: whoever asks, waits.

    @property
    def rowcount(self) -> int:
        """How many rows the statement touched."""
        self._fetch_pipeline()
        return super().rowcount

    @property
    def description(self) -> list[psycopg.Column] | None:
        """The columns of the rows that the statement returns, if it returns any."""
        self._fetch_pipeline()
        return super().description

    @property
    def statusmessage(self) -> str | None:
        """What the server says of the statement."""
        self._fetch_pipeline()
        return super().statusmessage

    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        # Without parameters psycopg speaks the simple protocol, where `SELECT 1; COMMIT` is two statements.
        super()._execute_send(query, force_extended=True, binary=binary)

    def _refuse_endings(self, query: Any) -> None:
        text = query.as_bytes(self) if isinstance(query, sql.Composable) else query
        raw = text.encode() if isinstance(text, str) else text
        if isinstance(raw, bytes) and _ENDS.match(raw, _start_of(raw)):
            raise PermanentError("a handler cannot begin or end a transaction, nor change its session but by SET LOCAL")


def _start_of(statement: bytes) -> int:
    """Return where a statement's first word is, behind blanks, empty statements and remarks, which may be nested."""
    position, depth = 0, 0
    while True:
        if blank := _BLANK.match(statement, position):
            position = blank.end()
        if not statement.startswith(b"/*", position):
            return position
        for edge in _REMARK_EDGE.finditer(statement, position):
            depth += 1 if edge.group() == b"/*" else -1
            if depth == 0:
                position = edge.end()
                break
        else:
            return position
