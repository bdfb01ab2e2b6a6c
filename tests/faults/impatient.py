"""`python -m tests.faults.impatient SECONDS KIND`: a child that waits for an answer of Postgres no longer than that.

As shipped it waits for most of a minute (db/connection.py), and a handler's statement may take five.
"""

import sys

from console.child import main
from db import connection


def hurry(seconds: float) -> None:
    """Shorten every wait for an answer, for this process."""
    defaults = connection.KeptConnection.__init__.__kwdefaults__
    assert defaults is not None
    assert "answer_seconds" in defaults, "the wait for an answer was moved"
    defaults["answer_seconds"] = seconds
    connection._HANDLER_SECONDS = seconds


if __name__ == "__main__":
    hurry(float(sys.argv.pop(1)))
    sys.exit(main())
