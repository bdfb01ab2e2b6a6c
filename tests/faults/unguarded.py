"""`python -m tests.faults.unguarded GUARD KIND`: a child that works, with a guard taken out of its SQL.

What keeps the fault tests honest: a check that stays green without the guard that it watches is none. The product knows
nothing of this; the named queries are replaced in this process before it starts.
"""

import sys

from psycopg import sql

from console.child import main
from db import queries
from workers.running import RunningAttempts

# What is taken out of which query. Whoever ran the task once may end it then, whoever runs it now.
_CLAIM = (" AND live.claim_number = given.claim_number", " AND live.worker_id = %(worker_id)s")
_GUARDS = {"claim-number": ("finish", "reschedule")}


def take_out(guard: str) -> None:
    """Replace the queries that hold the guard, for this process."""
    known = queries._load("leases")
    for name in _GUARDS[guard]:
        lines = known[name].as_string(None).splitlines()
        text = " ".join(" ".join(line.split()) for line in lines if not line.lstrip().startswith("--"))
        for part in _CLAIM:
            assert part in text, f"{name} has no {part!r}: the guard was moved"
            text = text.replace(part, "")
        known[name] = sql.SQL(text)
    # Nor is a handler interrupted whose attempt was lost: it would never come to write.
    setattr(RunningAttempts, "obey", lambda self, order: None)  # noqa: B010 - a method of the product's


if __name__ == "__main__":
    take_out(sys.argv.pop(1))
    sys.exit(main())
