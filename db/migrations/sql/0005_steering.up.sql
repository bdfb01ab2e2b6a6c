-- A task that runs is asked to end instead of being taken from under its handler, and an attempt keeps what its handler logged.

-- A request is of a task that runs: whoever would let it wait again ends it instead, in the same transaction.
ALTER TABLE queue.outbox_tasks ADD COLUMN cancel_requested_at timestamptz;
ALTER TABLE queue.outbox_tasks ADD COLUMN cancel_reason text CHECK (length(cancel_reason) <= 10000);
ALTER TABLE queue.outbox_tasks ADD CONSTRAINT cancel_says_why
    CHECK ((cancel_requested_at IS NULL) = (cancel_reason IS NULL));
-- Nearly empty, and of columns that neither a take nor a renewal changes: both stay HOT.
CREATE INDEX tasks_live_cancel_idx ON queue.tasks_live (id) WHERE cancel_requested_at IS NOT NULL;

-- The last attempt of a done task has a row here only if its handler logged something.
ALTER TABLE queue.attempts ADD COLUMN log text CHECK (length(log) <= 20000);
ALTER TABLE queue.attempts DROP CONSTRAINT attempts_outcome_check;
ALTER TABLE queue.attempts ADD CONSTRAINT attempts_outcome_check
    CHECK (outcome IN ('done', 'retry', 'snooze', 'fail', 'cancel', 'lost', 'handed_back'));
