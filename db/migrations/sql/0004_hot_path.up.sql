-- What a take changes stands in no index (docs/decisions/0006-hot-path.md), and a queue's due tasks are found by tenant.
-- Processes of the version before must have ended.

-- `claimed_until` stays on a task that runs: it says that the task is occupied, by a message or by an attempt.
ALTER TABLE queue.outbox_tasks DROP CONSTRAINT in_progress_is_leased;
UPDATE queue.tasks_live SET claimed_until = now() WHERE status = 'in_progress';
ALTER TABLE queue.outbox_tasks ADD CONSTRAINT in_progress_is_leased CHECK
    (status <> 'in_progress' OR (lease_until IS NOT NULL AND deadline_at IS NOT NULL AND worker_id IS NOT NULL
        AND started_at IS NOT NULL AND attempts > 0 AND claimed_until IS NOT NULL AND completed_at IS NULL));

-- Of how many tasks a task's message may hold, by its claim: it occupies that part of a slot.
ALTER TABLE queue.outbox_tasks ADD COLUMN batch_size smallint CHECK (batch_size BETWEEN 1 AND 1000);
UPDATE queue.tasks_live SET batch_size = 1 WHERE claimed_until IS NOT NULL;
ALTER TABLE queue.outbox_tasks ADD CONSTRAINT occupied_has_size CHECK (claimed_until IS NULL OR batch_size IS NOT NULL);

-- How many tasks of each type a worker takes in one message, as it measured them; a type that it has not measured: one.
ALTER TABLE queue.processes ADD COLUMN batch_sizes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(batch_sizes) = 'object');

-- The claim reads this one: it holds nothing but what may be claimed now, tenant by tenant, so that it can be fair to all.
-- Tasks of no tenant stand under the nil UUID. The status is not in the predicate: a take changes it.
DROP INDEX queue.tasks_live_claim_idx;
CREATE INDEX tasks_live_claim_idx ON queue.tasks_live (queue, (CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END), rank)
    WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL;

-- The tasks that occupy slots. Neither a take nor a renewal changes what it holds: both are HOT.
DROP INDEX queue.tasks_live_occupied_idx;
CREATE INDEX tasks_live_occupied_idx ON queue.tasks_live (claimed_until) WHERE claimed_until IS NOT NULL;
