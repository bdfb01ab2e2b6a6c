-- Back to cancels that take the row of a task that runs, and to attempts without their logs.

DELETE FROM queue.attempts WHERE outcome = 'done';
ALTER TABLE queue.attempts DROP CONSTRAINT attempts_outcome_check;
ALTER TABLE queue.attempts ADD CONSTRAINT attempts_outcome_check
    CHECK (outcome IN ('retry', 'snooze', 'fail', 'cancel', 'lost', 'handed_back'));
ALTER TABLE queue.attempts DROP COLUMN log;

DROP INDEX queue.tasks_live_cancel_idx;
ALTER TABLE queue.outbox_tasks DROP COLUMN cancel_reason, DROP COLUMN cancel_requested_at;
