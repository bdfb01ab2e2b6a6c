-- The audit's events; rows are only ever added.

-- name: record
-- One event for each thing that a deed touched, in the deed's transaction.
INSERT INTO audit.audit_events (tenant_id, event_type, event_category, description, resource_type, resource_id, metadata)
SELECT given.tenant_id, %(event_type)s, %(category)s, %(description)s, given.kind, given.id, %(metadata)s
FROM unnest(%(kinds)s::text[], %(ids)s::text[], %(tenants)s::uuid[]) AS given (kind, id, tenant_id);
