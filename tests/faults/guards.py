"""The guards that the invariants stand on, and which test turns red without each. `test_guards` takes them out.

I4 comes with the scheduler: its guard has a line here when it is there.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """A piece of a file and what stands there without it; `test` is the id of the test that has to fail then."""

    invariant: str
    what: str
    file: str
    text: str
    instead: str
    test: str


_SCENARIOS = "tests/faults/test_scenarios.py::test_no_task_is_lost_and_none_happens_twice"
GUARDS = (
    Guard(
        "I1",
        "nobody rescues a lease that ran out",
        "db/sql/queue.sql",
        "WHERE claimed_until IS NOT NULL AND lease_until <= now()",
        "WHERE claimed_until IS NOT NULL AND lease_until <= now() AND false",
        f"{_SCENARIOS}[machine_killed]",
    ),
    Guard(
        "I1",
        "nobody gives back a claim that no worker took",
        "db/sql/queue.sql",
        "WHERE claimed_until <= now() AND status = 'pending'",
        "WHERE claimed_until <= now() AND status = 'pending' AND false",
        f"{_SCENARIOS}[redis_flushed]",
    ),
    Guard(
        "I2",
        "effects are written without a look whether the attempt still is the worker's",
        "workers/recording.py",
        "ours = [run for run in runs if run.attempt.task_id in kept]",
        "ours = list(runs)",
        f"{_SCENARIOS}[commit_unanswered]",
    ),
    Guard(
        "I2",
        "what a handler forked and comes back goes on as a worker",
        "workers/running.py",
        "os._exit(_FORKED)",
        "pass",
        "tests/faults/test_hostile.py::test_a_hostile_handler_costs_its_own_attempt_at_most[fork and return]",
    ),
    Guard(
        "I3",
        "rescue takes attempts whose lease is valid",
        "db/sql/queue.sql",
        "WHERE claimed_until IS NOT NULL AND lease_until <= now()",
        "WHERE claimed_until IS NOT NULL AND status = 'in_progress'",
        f"{_SCENARIOS}[redis_flushed]",
    ),
    Guard(
        "I5",
        "relays count what a limit has let in without a lock on it",
        "db/sql/limits.sql",
        "FOR NO KEY UPDATE OF l;",
        ";",
        "tests/integration/queue/test_limits.py::test_eight_relays_at_once_let_no_more_in",
    ),
    Guard(
        "I6",
        "a tenant is bound to the session and not to the transaction",
        "db/connection.py",
        "set_config('app.current_tenant_id', %s, true)",
        "set_config('app.current_tenant_id', %s, false)",
        "tests/integration/test_row_security.py::"
        "test_the_binding_ends_with_its_transaction_and_a_savepoint_does_not_end_it",
    ),
    Guard(
        "I7",
        "errors keep the payload's values",
        "workers/attempts.py",
        'text = text.replace(secret, "[payload]")',
        "pass",
        "tests/integration/queue/test_secrecy.py",
    ),
    Guard(
        "I8",
        "a version is swapped in while vectors are missing",
        "db/sql/documents.sql",
        "    AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(space_id)s"
        " AND v.chunk_id = c.id)\nORDER BY c.chunk_index;\n\n-- name: chunks_to_embed",
        "    AND false ORDER BY c.chunk_index;\n\n-- name: chunks_to_embed",
        "tests/faults/test_readers.py",
    ),
    Guard(
        "I9",
        "the claim's condition is not its index's any more",
        "db/sql/queue.sql",
        "live.is_due AND live.hold_reason IS NULL AND live.claimed_until IS NULL",
        "live.is_due IS NOT false AND live.hold_reason IS NULL AND live.claimed_until IS NULL",
        "tests/integration/queue/test_plans.py",
    ),
    Guard(
        "I10",
        "loops never say that they are late",
        "core/service.py",
        "return max(self._clock.monotonic() - self._wanted_at, 0.0)",
        "return 0.0",
        "tests/faults/test_health.py::test_a_loop_that_hangs_is_late[relay]",
    ),
)
