-- Spaces: what is embedded by which model. One of a kind is active: searches read it, and a version of a document is shown when
-- all of its chunks have vectors there. The others are kept up beside it, so that each can take over at once.
-- Of each kind a space is made, indexed and dropped; filled and switched to are those of chunks.
-- Locks: 7216335408824, shared by whoever shows a version (documents.sql), alone by whoever switches; 7216335408825, in
-- a session, by whoever builds an index, switches or drops.

-- name: spaces
-- All spaces of a kind, the active one first.
SELECT s.id, m.name, m.revision, m.dimensions, m.max_tokens, s.precision, s.is_active, s.is_dropped, s.kind FROM knowledge.spaces s
JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.kind = %(kind)s ORDER BY s.is_active DESC, s.id;

-- name: create
SELECT knowledge.create_space(%(kind)s, %(model)s, %(revision)s, %(dimensions)s, %(max_tokens)s, %(precision)s::text);

-- name: chunks
-- How many chunks there are, of versions that are shown or will be.
SELECT count(*) FROM knowledge.chunks;

-- name: vectors
SELECT count(*) FROM knowledge.chunk_vectors WHERE space_id = %(id)s;

-- name: newest
SELECT id FROM knowledge.chunks ORDER BY id DESC LIMIT 1;

-- part: embedded
-- Of `wanted`, those that a task embeds, and whether all such tasks are held. Tasks are their document's, or the space's.
tasks AS MATERIALIZED (
    -- those of a foreign producer may say anything: what it says is compared as text, or as a number of any size
    SELECT t.payload->>'document_id' AS document_id, t.payload->>'version' AS version,
        (t.payload->>'first')::numeric AS first, (t.payload->>'last')::numeric AS last, t.hold_reason IS NOT NULL AS is_held
    FROM queue.tasks_live t
    WHERE t.owner_id = ANY (ARRAY(SELECT DISTINCT document_id FROM wanted) || %(id)s::uuid)
        AND t.task_type = 'chunks.embed' AND t.payload_version IS NOT NULL AND t.payload->>'space_id' = %(id)s::text
), embedded AS (
    SELECT wanted.id, bool_and(tasks.is_held) AS is_held FROM wanted
    JOIN tasks ON tasks.document_id = wanted.document_id::text AND tasks.version = wanted.version::text
    WHERE wanted.chunk_index BETWEEN tasks.first AND tasks.last GROUP BY wanted.id
)

-- name: page
-- The next chunks by their ids that have no vector in the space, at most %(limit)s: of each version of a document the indexes of
-- those that no task embeds, and the last id.
WITH wanted AS MATERIALIZED (
    SELECT c.id, c.tenant_id, c.document_id, c.version, c.chunk_index FROM knowledge.chunks c
    WHERE c.id > %(after)s AND c.id <= %(end)s AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id)
    ORDER BY c.id LIMIT %(limit)s
),
-- include: embedded
SELECT c.tenant_id, c.document_id, c.version, array_agg(c.chunk_index ORDER BY c.chunk_index) FILTER (WHERE e.id IS NULL),
    (array_agg(c.id ORDER BY c.id DESC))[1]
FROM wanted c LEFT JOIN embedded e ON e.id = c.id GROUP BY c.tenant_id, c.document_id, c.version;

-- name: lacking
-- How many chunks of a range of ids have no vector in the space, and how many of them a task embeds that is not held.
WITH wanted AS MATERIALIZED (
    SELECT c.id, c.document_id, c.version, c.chunk_index FROM knowledge.chunks c WHERE c.id > %(after)s AND c.id <= %(until)s
        AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id)
),
-- include: embedded
SELECT (SELECT count(*) FROM wanted), (SELECT count(*) FROM embedded WHERE NOT is_held);

-- name: unshown
-- Newest versions of documents that the space has whole and that nobody sees yet. Tenants that are suspended come later.
SELECT d.tenant_id, d.id, d.next_version FROM knowledge.documents d JOIN identity.tenants t ON t.id = d.tenant_id AND t.status = 'active'
WHERE d.next_version > d.current_version AND d.deleted_at IS NULL
    AND EXISTS (SELECT FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = d.next_version)
    AND NOT EXISTS (SELECT FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = d.next_version
        AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id));

-- part: leaf
-- A space's partition, by its name: one that was detached and not dropped yet is found too.
SELECT to_regclass(format('%%I.%%I', n.nspname, c.relname || '_' || replace(s.id::text, '-', ''))) AS oid
FROM knowledge.spaces s JOIN pg_class c ON c.oid = knowledge.vectors_of(s.kind) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.id = %(id)s

-- name: place
-- Where a space's vectors stand: their table and its partition.
SELECT n.nspname, c.relname, c.relname || '_' || replace(s.id::text, '-', '')
FROM knowledge.spaces s JOIN pg_class c ON c.oid = knowledge.vectors_of(s.kind) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.id = %(id)s;

-- name: index
-- The index that searches of a space use: its name, whether it is whole, its size; and the size of all.
SELECT i.indexrelid::regclass::text, i.indisvalid, pg_relation_size(i.indexrelid), pg_total_relation_size(leaf.oid)
FROM (SELECT (
-- include: leaf
) AS oid) AS leaf
LEFT JOIN (pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0]) ON i.indrelid = leaf.oid
    AND o.opcname = (SELECT s.precision || '_cosine_ops' FROM knowledge.spaces s WHERE s.id = %(id)s)
ORDER BY i.indisvalid DESC LIMIT 1;

-- name: building
-- How far the building of an index on a space's vectors has come, in tuples.
SELECT p.tuples_done, p.tuples_total FROM pg_stat_progress_create_index p
WHERE p.relid = (
-- include: leaf
);

-- name: lock
-- Until the end of the transaction no version is shown.
SELECT pg_advisory_xact_lock(7216335408824);

-- name: unready
-- Chunks of versions that are shown which the space lacks, counted up to %(limit)s. Tenants that are suspended search nothing,
-- and their tasks are held.
SELECT count(*) FROM (
    SELECT FROM knowledge.documents d JOIN knowledge.chunks c ON c.document_id = d.id AND c.version = d.current_version
    JOIN identity.tenants t ON t.id = d.tenant_id AND t.status = 'active'
    WHERE d.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(id)s AND v.chunk_id = c.id) LIMIT %(limit)s
) AS c;

-- name: deactivate
UPDATE knowledge.spaces SET is_active = false WHERE kind = 'chunks' AND is_active AND id <> %(id)s;

-- name: activate
UPDATE knowledge.spaces SET is_active = true WHERE id = %(id)s AND NOT is_dropped;

-- name: steer
SELECT pg_try_advisory_lock(7216335408825);

-- name: steer_no_more
SELECT pg_advisory_unlock(7216335408825);

-- name: has_partition
SELECT EXISTS (SELECT FROM pg_inherits WHERE NOT inhdetachpending AND inhrelid = (
-- include: leaf
));

-- name: give_up
-- From now on nothing is embedded for it, and nobody switches to it.
UPDATE knowledge.spaces SET is_dropped = true WHERE id = %(id)s AND NOT is_active;

-- name: raise_memory
-- For this session, unless the server has more to give.
SELECT set_config('maintenance_work_mem', %(memory)s, false) WHERE pg_size_bytes(%(memory)s) > pg_size_bytes(current_setting('maintenance_work_mem'));

-- name: forget
DELETE FROM knowledge.spaces WHERE id = %(id)s AND NOT is_active;

-- name: forget_models
DELETE FROM knowledge.embedding_models m WHERE NOT EXISTS (SELECT FROM knowledge.spaces s WHERE s.model_id = m.id);
