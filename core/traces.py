"""Traces: one span an attempt, from the producer's enqueue on. Off until started, and then free of OpenTelemetry.

    producer's span ── traceparent in the task's row ──▶ "run <task type>" ── tasks it enqueues ──▶ "run …"

The hook that the executor calls stands here; what knows OpenTelemetry is `core.spans`, imported when tracing starts.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING
from uuid import UUID

from core import events

if TYPE_CHECKING:
    from core.spans import AttemptSpans

_OFF: AbstractContextManager[None] = nullcontext()
_spans: "AttemptSpans | None" = None


def start(endpoint: str, service: str) -> Callable[[], None]:
    """Export spans to the OTLP/HTTP collector at `endpoint`; return the function that flushes and ends it.

    Raises SettingsError for an address that is none. A collector that does not answer costs spans, never work.
    """
    from core.spans import AttemptSpans

    global _spans
    spans = _spans = AttemptSpans(endpoint, service)
    forget = events.subscribe(spans.on_event)

    def close() -> None:
        global _spans
        forget()
        _spans = None if _spans is spans else _spans
        spans.close()

    return close


def attempt_span(
    task_type: str, task_id: UUID, attempt: int, trace_context: str | None, started: float
) -> AbstractContextManager[None]:
    """Make an attempt's span the thread's current one for a block; begun (at `started`, monotonic) where it is not yet.

    The span ends with the attempt's AttemptEnded or AttemptLost. What the block enqueues has it as parent.
    """
    return _OFF if _spans is None else _spans.current(task_type, task_id, attempt, trace_context, started)
