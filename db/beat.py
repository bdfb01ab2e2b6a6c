"""The beat: a process says that it lives and how late its loops are. A worker's is in its heartbeat process."""

import contextlib
from collections.abc import Callable

from core.errors import UnavailableError
from db import processes
from db.connection import KeptConnection


class Beat:
    """Makes a process known, keeps it so, and takes it off the list at the end.

    After `timeout` seconds of silence it is taken for dead.
    """

    name = "beat"

    def __init__(
        self,
        connection: KeptConnection,
        process: processes.ProcessRow,
        loops_late: Callable[[], dict[str, float]],
        *,
        timeout: float,
    ) -> None:
        self._connection = connection
        self._process = process
        self._loops_late = loops_late
        self._pause = timeout / 3  # two beats may be missed before anybody calls it silent

    def run_once(self) -> float:
        """Beat once."""
        processes.beat(self._connection.get(), self._process, self._loops_late())
        return self._pause

    def close(self) -> None:
        """Take the process off the list and close the connection."""
        with contextlib.suppress(UnavailableError):  # its silence says it then
            processes.unregister_process(self._connection.get(), self._process.id)
        self._connection.close()
