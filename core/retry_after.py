"""The Retry-After header of HTTP (RFC 9110, 10.2.3): one reading of it for every service that is asked."""

import email.utils
import math
import time
from datetime import timedelta


def retry_after(header: str | None, *, least: timedelta = timedelta(0), most: timedelta) -> timedelta | None:
    """Return how long a server wants to be left alone, within bounds; None where it does not say."""
    seconds = _seconds_of(header.strip()) if header else None
    if seconds is None:
        return None
    return timedelta(seconds=min(max(seconds, least.total_seconds()), most.total_seconds()))


def _seconds_of(header: str) -> float | None:
    try:
        seconds = float(header)
    except ValueError:
        try:
            return email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):  # a year, or an offset, that no clock has
            return None
    return None if math.isnan(seconds) else seconds
