"""Reading a process of the worker's own host, with psutil: that process alone, without those that it has started."""

import os
import time
from datetime import datetime

import psutil

from db.persona_health import Counters
from pipelines.health.readings import Reading, Reason

_SLACK_SECONDS = 2.0
"""A process's start is counted from the host's, which a clock that is set moves a little."""


def read(process_id: int, started_at: datetime) -> Reading | Reason:
    """Return what a process uses now, or why that is not known: a number is given to another process in time.

    Memory is what is resident, its limit the machine's; in a container psutil tells of the machine all the same.
    """
    try:
        process = psutil.Process(process_id)
        with process.oneshot():
            if abs(process.create_time() - started_at.timestamp()) > _SLACK_SECONDS:
                return "another process"
            if process.status() == psutil.STATUS_ZOMBIE:
                return "stopped"
            used, memory = process.cpu_times(), process.memory_info().rss
        allowed = len(os.sched_getaffinity(process_id))
    except (psutil.NoSuchProcess, ProcessLookupError):
        return "gone"
    except (psutil.AccessDenied, PermissionError):
        return "no access"
    count = os.cpu_count() or 1
    counters = Counters(
        f"process {process_id} {started_at.timestamp():.2f}",
        round((used.user + used.system) * 1e9),
        time.monotonic_ns() * count,
    )
    return Reading(memory, psutil.virtual_memory().total, None, counters, min(allowed / count, 1.0))
