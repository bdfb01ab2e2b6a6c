"""The relay's loop that keeps statistics: counts closed minutes, tells how queues stand, forgets old minutes."""

import random

from core import events
from db import statistics
from db.connection import KeptConnection

# What is committing when its minute closes is let in; what comes later is counted with the next minute. The spread
# keeps relays from asking all at once.
_AFTER_CLOSE = (1.0, 3.0)


class Statistics:
    """Keeps `queue.statistics` and `queue.gauges`; any number of relays do, and each minute is counted by one."""

    name = "statistics"

    def __init__(self, connection: KeptConnection, keep_days: int) -> None:
        self._connection = connection
        self._keep_days = keep_days

    def run_once(self) -> float:
        """Count one minute; at once again while there are more, or much to forget."""
        connection = self._connection.get()
        if statistics.roll_up(connection):
            return 0.0
        if statistics.prune(connection, days=self._keep_days) >= statistics.PRUNE_LIMIT:
            return 0.0
        found = statistics.standing(connection)
        events.emit(events.QueuesMeasured({q.queue: (q.waiting, q.running, q.oldest_seconds) for q in found}))
        return statistics.seconds_to_next_minute(connection) + random.uniform(*_AFTER_CLOSE)  # noqa: S311 - spreads load

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
