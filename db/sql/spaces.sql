-- Spaces: what is embedded by which model. One of a kind is active: searches read it, and a version of a document is shown when
-- all of its chunks have vectors there. The others are kept up beside it, so that each can take over at once.
-- Locks: 7216335408824, shared by whoever shows a version (documents.sql), alone by whoever switches; 7216335408825 by whoever
-- switches or drops.

-- name: spaces
-- All spaces, the active one first.
SELECT s.id, m.name, m.revision, m.dimensions, m.max_tokens, s.precision, s.is_active FROM knowledge.spaces s
JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.kind = 'chunks' ORDER BY s.is_active DESC, s.id;

-- name: create
SELECT knowledge.create_space('chunks', %(model)s, %(revision)s, %(dimensions)s, %(max_tokens)s, %(precision)s::text);

-- name: chunks
-- How many chunks there are, of versions that are shown or will be.
SELECT count(*) FROM knowledge.chunks;

-- name: vectors
SELECT count(*) FROM knowledge.chunk_vectors WHERE space_id = %(id)s;

-- name: tasks
-- The tasks that fill a space: those that live, and those that failed since %(since)s.
SELECT (SELECT count(*) FROM queue.tasks_live WHERE owner_kind = 'space' AND owner_id = %(id)s),
    (SELECT count(*) FROM queue.tasks_history WHERE owner_kind = 'space' AND owner_id = %(id)s AND status IN ('failed', 'cancelled')
        AND created_at >= %(since)s);

-- name: missing
-- Chunks without a vector in the space, at most %(limit)s: of each version of a document their indexes. What failed since
-- %(since)s is not tried again.
SELECT c.tenant_id, c.document_id, c.version, array_agg(c.chunk_index ORDER BY c.chunk_index) FROM (
    SELECT c.tenant_id, c.document_id, c.version, c.chunk_index FROM knowledge.chunks c
    WHERE NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id)
        AND c.document_id <> ALL (ARRAY(
            SELECT (h.payload->>'document_id')::uuid FROM queue.tasks_history h
            WHERE h.owner_kind = 'space' AND h.owner_id = %(id)s AND h.status IN ('failed', 'cancelled') AND h.created_at >= %(since)s))
    LIMIT %(limit)s
) AS c GROUP BY c.tenant_id, c.document_id, c.version;

-- name: asked_at
SELECT created_at FROM queue.tasks_live WHERE id = %(id)s;

-- name: index
-- The index of a space's vectors: its name, whether it is whole, its size; and the size of all.
SELECT i.indexrelid::regclass::text, i.indisvalid, pg_relation_size(i.indexrelid), pg_total_relation_size(leaf.oid)
FROM (SELECT to_regclass('knowledge.chunk_vectors_' || replace(%(id)s::uuid::text, '-', '')) AS oid) AS leaf
LEFT JOIN (pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'hnsw')
    ON i.indrelid = leaf.oid;

-- name: building
-- How far the building of an index on a space's vectors has come, in tuples.
SELECT p.tuples_done, p.tuples_total FROM pg_stat_progress_create_index p
WHERE p.relid = to_regclass('knowledge.chunk_vectors_' || replace(%(id)s::uuid::text, '-', ''));

-- name: lock
-- Until the end of the transaction no version is shown.
SELECT pg_advisory_xact_lock(7216335408824);

-- name: unready
-- Chunks of versions that are shown which the space lacks, counted up to %(limit)s.
SELECT count(*) FROM (
    SELECT FROM knowledge.documents d JOIN knowledge.chunks c ON c.document_id = d.id AND c.version = d.current_version
    WHERE d.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id) LIMIT %(limit)s
) AS c;

-- name: deactivate
UPDATE knowledge.spaces SET is_active = false WHERE kind = 'chunks' AND is_active AND id <> %(id)s;

-- name: activate
UPDATE knowledge.spaces SET is_active = true WHERE id = %(id)s;

-- name: steer
SELECT pg_advisory_lock(7216335408825);

-- name: steer_no_more
SELECT pg_advisory_unlock(7216335408825);

-- name: has_partition
SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('knowledge.chunk_vectors_' || replace(%(id)s::uuid::text, '-', ''))
    AND NOT inhdetachpending);

-- name: forget
DELETE FROM knowledge.spaces WHERE id = %(id)s AND NOT is_active;

-- name: forget_models
DELETE FROM knowledge.embedding_models m WHERE NOT EXISTS (SELECT FROM knowledge.spaces s WHERE s.model_id = m.id);
