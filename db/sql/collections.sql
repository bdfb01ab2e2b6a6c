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

-- name: list
SELECT c.id, c.slug, c.name, c.description, c.chunk_size, c.chunk_overlap,
    (SELECT count(*) FROM knowledge.documents d WHERE d.collection_id = c.id AND d.deleted_at IS NULL)
FROM knowledge.collections c WHERE c.deleted_at IS NULL ORDER BY c.slug;

-- name: change
UPDATE knowledge.collections SET name = COALESCE(%(name)s, name), description = COALESCE(%(description)s, description),
    chunk_size = COALESCE(%(chunk_size)s, chunk_size), chunk_overlap = COALESCE(%(chunk_overlap)s, chunk_overlap)
WHERE id = %(id)s AND deleted_at IS NULL;
