-- Collections of documents. Every query runs in a transaction that is bound to one tenant.

-- name: collection_by_slug
SELECT id FROM knowledge.collections WHERE tenant_id = %(tenant_id)s AND slug = %(slug)s AND deleted_at IS NULL;

-- name: ensure_collection
-- A collection of that slug, made if it is missing.
WITH made AS (
    INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (%(tenant_id)s, %(slug)s, %(slug)s)
    ON CONFLICT (tenant_id, slug) WHERE deleted_at IS NULL DO NOTHING
    RETURNING id
)
SELECT id, true FROM made
UNION ALL
SELECT id, false FROM knowledge.collections WHERE tenant_id = %(tenant_id)s AND slug = %(slug)s AND deleted_at IS NULL
LIMIT 1;
