"""What a process tells of itself: logs always, metrics and traces where the settings ask for them.

The one entry point of the composition root. Each part is a subscriber of `core.events`; a part that is off is not even
imported (a relay's memory).
"""

import atexit
from collections.abc import Callable
from contextlib import ExitStack

from core import logs
from core.groups import ObserveSettings

_running = ExitStack()
# Spans wait some seconds for company: whoever forgets to close loses none.
atexit.register(lambda: _running.close())


def configure(settings: ObserveSettings, *, service: str) -> Callable[[], None]:
    """Start logs, metrics and traces; return the function that flushes and ends them (twice is fine).

    `service` is the kind of process (`relay`, `worker`, …). A second call replaces what the first one started. Raises
    SettingsError when the metrics' port is taken or the traces' endpoint is no address; nothing runs then.
    """
    global _running
    _running.close()
    with ExitStack() as parts:
        parts.callback(logs.start(settings.log_format, settings.log_level, service))
        if settings.metrics_port is not None:
            from core import metrics

            parts.callback(metrics.start(settings.metrics_address, settings.metrics_port))
        if settings.otlp_endpoint is not None:
            from core import traces

            parts.callback(traces.start(settings.otlp_endpoint, service))
        _running = parts.pop_all()
    return _running.close
