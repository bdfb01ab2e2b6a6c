"""The guards that the invariants stand on, and which test turns red without each. `test_guards` takes them out."""

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


_FIRES = "tests/faults/test_fires.py::test_each_time_of_a_schedule_comes_to_what_its_policies_say_once"
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
        "I4",
        "schedulers fire a schedule without a lock on it",
        "db/sql/fires.sql",
        "FOR UPDATE SKIP LOCKED;",
        ";",
        _FIRES,
    ),
    Guard(
        "I4",
        "what a look does is not one transaction",
        "scheduler/firing.py",
        "with transaction(connection):",
        "if True:",
        _FIRES,
    ),
    Guard(
        "I4",
        "a time that has its task is given another",
        "db/sql/fires.sql",
        "WHERE known.task_id IS NULL",
        "WHERE true",
        "tests/integration/schedules/test_store.py::test_a_time_has_one_task_and_a_row_without_one_may_be_turned",
    ),
    Guard(
        "I4",
        "a clock that was set back is not seen",
        "db/sql/fires.sql",
        " OR settled_at > clock_timestamp()",
        "",
        _FIRES,
    ),
    Guard(
        "I4",
        "a fire that is late is not told from one in time",
        "scheduler/firing.py",
        'if due.is_missed and row.missed == "skip":',
        "if False:",
        _FIRES,
    ),
    Guard(
        "I4",
        "what is settled already is counted as missed",
        "scheduler/firing.py",
        "first.missed - ours",
        "first.missed",
        "tests/faults/test_fire_clocks.py",
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
