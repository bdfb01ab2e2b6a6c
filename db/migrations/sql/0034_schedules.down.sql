-- Schedules, fires and what a scheduler may do go.

REVOKE INSERT (task_type, payload, tenant_id, owner_kind, owner_id, metadata, queue, priority, run_after) ON queue.outbox_tasks
    FROM greenroom_scheduler;
REVOKE SELECT (id, owner_kind, owner_id) ON queue.outbox_tasks FROM greenroom_scheduler;
DROP POLICY scheduler_adds ON queue.outbox_tasks;
DROP POLICY scheduler_looks ON queue.outbox_tasks;
REVOKE SELECT (id, status, owner_kind, owner_id, hold_reason) ON queue.tasks_live FROM greenroom_scheduler;
DROP POLICY scheduler_looks ON queue.tasks_live;
REVOKE EXECUTE ON FUNCTION queue.enqueue_array FROM greenroom_scheduler;
REVOKE SELECT, INSERT, UPDATE, DELETE ON queue.processes FROM greenroom_scheduler;
REVOKE USAGE ON SCHEMA queue, identity FROM greenroom_scheduler;
DROP TABLE queue.fires;
DROP TABLE queue.schedules;
