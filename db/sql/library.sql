-- Documents as operators see them. Every query runs in a transaction that is bound to one tenant.

-- name: list
SELECT d.id, d.name, c.slug AS collection, d.status, d.chunk_count, d.page_count, d.file_size, d.mime_type, d.error_message,
    d.current_version, d.uploaded_at, d.completed_at
FROM knowledge.documents d LEFT JOIN knowledge.collections c ON c.id = d.collection_id
WHERE d.deleted_at IS NULL AND (%(status)s::text IS NULL OR d.status = %(status)s)
    AND (%(before)s::uuid IS NULL OR d.id < %(before)s) AND (%(collection)s::text IS NULL OR c.slug = %(collection)s)
ORDER BY d.id DESC LIMIT %(limit)s;

-- name: show
SELECT d.id, d.name, c.slug AS collection, d.status, d.chunk_count, d.page_count, d.file_size, d.mime_type, d.error_message,
    d.current_version, d.uploaded_at, d.completed_at, d.title, d.external_id, d.source, d.source_url, d.file_path, d.content_hash,
    d.persona_id, d.metadata
FROM knowledge.documents d LEFT JOIN knowledge.collections c ON c.id = d.collection_id
WHERE d.id = %(id)s AND d.deleted_at IS NULL;

-- name: find_by_name
-- Documents of that name or external id; two of them tell that there are several. External ids are indexed by collection.
SELECT id FROM (
    (SELECT id FROM knowledge.documents WHERE name = %(name)s AND deleted_at IS NULL LIMIT 2)
    UNION (SELECT d.id FROM knowledge.collections c JOIN knowledge.documents d ON d.collection_id = c.id
        WHERE d.external_id = %(name)s AND d.deleted_at IS NULL LIMIT 2)
    UNION (SELECT id FROM knowledge.documents WHERE collection_id IS NULL AND external_id = %(name)s AND deleted_at IS NULL LIMIT 2)
) AS found ORDER BY id LIMIT 2;

-- name: by_external_id
SELECT id FROM knowledge.documents
WHERE collection_id = %(collection_id)s AND external_id = %(external_id)s AND deleted_at IS NULL;

-- name: chunk_list
SELECT chunk_index, token_count, page, section, start_offset, end_offset, left(text, 200) AS text
FROM knowledge.chunks c JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version
WHERE d.id = %(id)s ORDER BY chunk_index LIMIT %(limit)s;

-- name: states
-- How far documents are: their status, and what is live of the tasks that work for them.
SELECT d.id, d.status, d.error_message, d.chunk_count, live.task_types, live.hold_reason
FROM knowledge.documents d
CROSS JOIN LATERAL (
    SELECT COALESCE(array_agg(DISTINCT t.task_type::text), '{}') AS task_types, max(t.hold_reason) AS hold_reason
    FROM queue.tasks_live t WHERE t.owner_id = d.id AND t.owner_kind = 'document'
) live
WHERE d.id = ANY (%(ids)s) AND d.deleted_at IS NULL;

-- name: failed_tasks
-- Of failed documents, all or those given, the tasks that the failure is made of: of the newest version and the space that is
-- searched, or its ingest where that came to no version.
SELECT t.id FROM knowledge.documents d CROSS JOIN LATERAL (
    -- fenced: all history would be read for a join
    SELECT h.id, h.status, h.task_type, h.payload, h.completed_at FROM queue.tasks_history h
    WHERE h.owner_id = d.id AND h.owner_kind = 'document' OFFSET 0
) AS t
WHERE d.status = 'failed' AND d.deleted_at IS NULL AND (%(ids)s::uuid[] IS NULL OR d.id = ANY (%(ids)s::uuid[]))
    AND t.status IN ('failed', 'cancelled')
    AND (t.task_type IN ('document.chunk', 'chunks.embed') AND t.payload->>'version' = d.next_version::text
            AND (t.payload->>'space_id' = (
                SELECT s.id::text FROM knowledge.spaces s WHERE s.kind = 'chunks' AND s.is_active)) IS NOT FALSE
        OR t.task_type = 'document.ingest' AND NOT EXISTS (
            SELECT FROM queue.tasks_history later WHERE later.owner_id = d.id AND later.owner_kind = 'document'
                AND later.task_type = 'document.ingest' AND later.completed_at > t.completed_at))
ORDER BY t.completed_at LIMIT 10000;

-- name: text
-- The text of the version that searches find.
SELECT t.text FROM knowledge.documents d JOIN knowledge.document_texts t ON t.document_id = d.id AND t.version = d.current_version
WHERE d.id = %(id)s AND d.deleted_at IS NULL;

-- name: persona
SELECT id FROM assistants.personas WHERE id = %(id)s;
