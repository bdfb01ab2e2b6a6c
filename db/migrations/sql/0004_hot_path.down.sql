-- Back to marks that a take moves. Processes must have ended.

ALTER TABLE queue.outbox_tasks DROP CONSTRAINT in_progress_is_leased;
UPDATE queue.tasks_live SET claimed_until = NULL WHERE status = 'in_progress';
ALTER TABLE queue.outbox_tasks ADD CONSTRAINT in_progress_is_leased CHECK
    (status <> 'in_progress' OR (lease_until IS NOT NULL AND deadline_at IS NOT NULL AND worker_id IS NOT NULL
        AND started_at IS NOT NULL AND attempts > 0 AND claimed_until IS NULL AND completed_at IS NULL));

ALTER TABLE queue.processes DROP COLUMN batch_sizes;
ALTER TABLE queue.outbox_tasks DROP COLUMN batch_size;

DROP INDEX queue.tasks_live_claim_idx;
CREATE INDEX tasks_live_claim_idx ON queue.tasks_live (queue, rank)
    WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL;

DROP INDEX queue.tasks_live_occupied_idx;
CREATE INDEX tasks_live_occupied_idx ON queue.tasks_live (COALESCE(deadline_at, claimed_until))
    WHERE deadline_at IS NOT NULL OR claimed_until IS NOT NULL;
