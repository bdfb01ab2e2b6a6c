"""Attempts as OpenTelemetry spans. Imported only where an endpoint is set: nothing else of ours imports OpenTelemetry.

A span carries ids, type, number and outcome of its attempt and the class of what it raised; never an error's text
(invariant I7). Store calls are no spans: one statement serves many tasks, so it has no one parent.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core.errors import SettingsError
from core.events import AttemptEnded, AttemptLost, AttemptRaised, Event

_PATH = "/v1/traces"
# One request; what a collector does not take in that time is dropped.
_EXPORT_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
# Attempts that an error kept from being reported leave their span here; the oldest go first.
_OPEN_LIMIT = 100_000

_Key = tuple[UUID, int]


class _Open(NamedTuple):
    span: Span
    parent: Context
    started_ns: int


class AttemptSpans:
    """The spans of the attempts that run in this process, and their way to the collector."""

    def __init__(self, endpoint: str, service: str) -> None:
        exporter = OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=_EXPORT_SECONDS)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: f"greenroom-{service}"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("greenroom")
        self._propagator = TraceContextTextMapPropagator()
        self._open: dict[_Key, _Open] = {}
        self._lock = threading.Lock()
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # Spans that a handler makes itself go the same way; a process may set this once.
            trace.set_tracer_provider(self._provider)

    @contextmanager
    def current(
        self, task_type: str, task_id: UUID, attempt: int, trace_context: str | None, started: float
    ) -> Iterator[None]:
        """Make the attempt's span current for a block, begun where it is not yet."""
        key = (task_id, attempt)
        with self._lock:
            found = self._open.get(key)
        if found is None:
            found = self._begin(task_type, key, trace_context, started)
            self._keep(key, found)
        token = context.attach(trace.set_span_in_context(found.span, found.parent))
        try:
            yield
        finally:
            context.detach(token)

    def on_event(self, event: Event) -> None:
        """Describe and end the spans of attempts."""
        match event:
            case AttemptRaised():
                self._raised(event)
            case AttemptEnded():
                self._ended(event)
            case AttemptLost():
                self._lost(event)
            case _:
                pass

    def close(self) -> None:
        """Flush what waits, for some seconds at most, and end the export."""
        # The SDK waits half a minute for a collector that is gone, and takes no other limit.
        closing = threading.Thread(target=self._provider.shutdown, name="traces close", daemon=True)
        try:
            closing.start()
        except RuntimeError:  # the interpreter is ending, and starts no threads any more
            self._provider.shutdown()
        else:
            closing.join(_CLOSE_SECONDS)

    def _begin(self, task_type: str, key: _Key, trace_context: str | None, started: float) -> _Open:
        carrier = {"traceparent": trace_context} if trace_context else {}
        parent = self._propagator.extract(carrier, Context())
        started_ns = time.time_ns() - int((time.monotonic() - started) * 1e9)
        attributes: dict[str, str | int] = {
            "greenroom.task.id": str(key[0]),
            "greenroom.task.type": task_type,
            "greenroom.task.attempt": key[1],
        }
        span = self._tracer.start_span(
            f"run {task_type}", parent, kind=SpanKind.CONSUMER, attributes=attributes, start_time=started_ns
        )
        return _Open(span, parent, started_ns)

    def _keep(self, key: _Key, found: _Open) -> None:
        with self._lock:
            while len(self._open) >= _OPEN_LIMIT:
                del self._open[next(iter(self._open))]
            self._open[key] = found

    def _pop(self, key: _Key) -> _Open | None:
        with self._lock:
            return self._open.pop(key, None)

    def _raised(self, event: AttemptRaised) -> None:
        with self._lock:
            found = self._open.get((event.task_id, event.attempt))
        if found is not None:
            found.span.set_attribute("error.type", event.error_type)
            found.span.set_attribute("greenroom.raised_at", event.where)

    def _ended(self, event: AttemptEnded) -> None:
        key = (event.task_id, event.attempt)
        started = time.monotonic() - event.seconds if event.started is None else event.started
        found = self._pop(key) or self._begin(event.task_type, key, event.trace_context, started)
        failed = event.outcome in ("retry", "fail")
        _end(found, event.outcome, failed=failed, ended_ns=found.started_ns + int(event.seconds * 1e9))

    def _lost(self, event: AttemptLost) -> None:
        if found := self._pop((event.task_id, event.attempt)):
            _end(found, "lost", failed=True, ended_ns=time.time_ns())


def traces_url(endpoint: str) -> str:
    """Return where spans are sent to: the collector's address with OTLP/HTTP's path; raises SettingsError."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            "GREENROOM_OBSERVE_OTLP_ENDPOINT must be the http:// or https:// address of an OTLP/HTTP collector"
        )
    address = endpoint.rstrip("/")
    return address if address.endswith(_PATH) else address + _PATH


def _end(found: _Open, outcome: str, *, failed: bool, ended_ns: int) -> None:
    found.span.set_attribute("greenroom.task.outcome", outcome)
    if failed:
        found.span.set_status(StatusCode.ERROR)
    found.span.end(ended_ns)
