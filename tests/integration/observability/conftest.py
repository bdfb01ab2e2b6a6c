"""A collector for each test, and tracing to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from core import traces
from tests.support.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def traced(collector: Collector) -> Iterator[Callable[[], list[Span]]]:
    """Tracing is on; call it to end it and have all spans, by their start."""
    with ExitStack() as ends:
        ends.callback(traces.start(collector.url, "worker"))

        def flush() -> list[Span]:
            ends.close()
            return collector.spans()

        yield flush
