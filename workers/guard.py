"""The cursor of worker connections: a handler's SQL cannot end the transaction that is not its own."""

import re
from typing import Any

import psycopg
from psycopg import sql

from core.errors import PermanentError

_ENDS = re.compile(
    rb"\s*(commit|rollback(?!\s+(work\s+|transaction\s+)?to\b)|abort|end|begin|start\s+transaction|prepare\s+transaction)\b",
    re.I,
)


class GuardedCursor(psycopg.Cursor[Any]):
    """Refuses statements that begin or end transactions; psycopg's own `transaction()` does not pass here."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "GuardedCursor":
        """Run a statement; raises PermanentError for one that would end the worker's transaction."""
        text = query.as_bytes(self) if isinstance(query, sql.Composable) else query
        raw = text.encode() if isinstance(text, str) else text
        if isinstance(raw, bytes) and _ENDS.match(raw):
            raise PermanentError("a handler cannot begin or end a transaction: the worker commits it with the task")
        super().execute(query, params, **options)
        return self
