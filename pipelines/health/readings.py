"""What was read of a container or process at one moment, and what two such readings come to.

What was not read, or makes no sense, is None and never 0.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from db.persona_health import Counters, Usage

Reason = Literal["gone", "stopped", "no answer", "refused", "garbled", "another process", "no access"]
"""Why there is no reading: the container or process is not there or does not run, the engine is silent, answers with an
error or with what is no measure, the process's number was given to another one, the process is not ours to look at.
"""
_MB, _GB = 10**6, 10**9
_MOST_MB, _MOST_GB = 2**31 - 1, Decimal("99999999.99")


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes, counters of processor time, and the share of its host's processors (above 0, up to 1) that it may use."""

    memory_bytes: int | None = None
    memory_limit: int | None = None
    disk_bytes: int | None = None
    counters: Counters | None = None
    share: float = 1.0


def usage_of(reading: Reading, before: Counters | None) -> Usage:
    """Return what a reading comes to, with the counters of the last measure."""
    memory, limit, disk = reading.memory_bytes, reading.memory_limit, reading.disk_bytes
    return Usage(
        cpu_percent=cpu_percent(before, reading.counters, reading.share),
        memory_mb=None if memory is None else min(round(memory / _MB), _MOST_MB),
        memory_percent=None if memory is None or not limit else _percent(memory / limit),
        disk_usage_gb=None if disk is None else min(_hundredths(disk / _GB), _MOST_GB),
    )


def cpu_percent(before: Counters | None, now: Counters | None, share: float) -> Decimal | None:
    """Return which part was used of the processor time that was there to use between two readings, in percent.

    None for the first reading, where the counters are of another start, where one stands or runs backwards (it has
    wrapped, or the host has started anew), and where more was used than the host has run.
    """
    if before is None or now is None or before.source != now.source:
        return None
    used, capacity = now.used_ns - before.used_ns, now.capacity_ns - before.capacity_ns
    if used < 0 or capacity <= 0 or used > 2 * capacity:
        return None
    return _percent(used / capacity / share)


def _percent(part: float) -> Decimal:
    """A quota is of a tenth of a second: at the edges a little more than all of it may have been used."""
    return min(_hundredths(100 * part), Decimal(100))


def _hundredths(value: float) -> Decimal:
    return Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_UP)
