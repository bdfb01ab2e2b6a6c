-- Tenants: what operators do with them, and the erasure of one that is deleted.

-- part: listed
SELECT t.id, t.slug, t.name, t.status, t.plan_type, t.created_at, t.deleted_at FROM identity.tenants t

-- name: list
-- include: listed
ORDER BY t.deleted_at IS NOT NULL, t.slug;

-- name: find
-- The tenant of that id or slug; a slug may look like the id of another. Of a slug that one had which is deleted, who has it now.
-- include: listed
WHERE t.slug = %(name)s OR t.id::text = %(name)s
ORDER BY t.id::text = %(name)s DESC, t.deleted_at DESC NULLS FIRST LIMIT 1;

-- name: details
SELECT t.contact_name, t.contact_email, t.max_agents, t.max_daily_requests, t.max_monthly_tokens,
    (SELECT count(*) FROM queue.tasks_live l WHERE l.tenant_id = t.id),
    (SELECT count(*) FROM queue.tasks_live l WHERE l.tenant_id = t.id AND l.hold_reason IS NOT NULL), ops.tenant_hold(t.id)
FROM identity.tenants t WHERE t.id = %(id)s;

-- name: add
INSERT INTO identity.tenants (slug, name, plan_type, contact_name, contact_email)
VALUES (%(slug)s, %(name)s, %(plan_type)s, %(contact_name)s, %(contact_email)s) RETURNING id;

-- name: set_status
-- Returns what it was before.
UPDATE identity.tenants t SET status = %(status)s FROM (SELECT id, status FROM identity.tenants WHERE id = %(id)s FOR UPDATE) AS before
WHERE t.id = before.id RETURNING before.status;

-- name: look
-- How a tenant stands that is to be erased, and the hold that forbids it. No row: it is gone.
SELECT t.status, ops.tenant_hold(t.id) FROM identity.tenants t WHERE t.id = %(id)s;

-- name: count_running
-- Its tasks that are on their way to workers, or run.
SELECT count(*) FROM queue.tasks_live WHERE claimed_until IS NOT NULL AND tenant_id = %(id)s;

-- name: request_ends
-- As an operator's request to end, for all that a tenant's runs.
UPDATE queue.tasks_live SET cancel_requested_at = now(), cancel_reason = 'its tenant is deleted'
WHERE claimed_until IS NOT NULL AND tenant_id = %(id)s AND status = 'in_progress' AND cancel_requested_at IS NULL;

-- name: tables
-- What tenants own; what each table refers to, and which of that cannot go before it.
SELECT relation::text, parents::text[], kept::text[] FROM ops.tenant_tables();

-- name: leftover
SELECT ops.tenant_leftover(%(id)s)::text;

-- name: erase_page
SELECT gone, next_block FROM ops.erase_page(%(id)s, %(relation)s::text::regclass, %(most)s, %(first_block)s);

-- name: empty
SELECT ops.empty_tenant(%(id)s);

-- name: remove
SELECT ops.remove_tenant(%(id)s);
