-- Documents, their texts, chunks and vectors. Every query runs in a transaction that is bound to one tenant.

-- name: register
-- A file of that name in the collection: a new document, or a new file for the one that is there. Says what its last
-- complete version was made of, and which file it had before. A persona that is not named stays.
WITH before AS MATERIALIZED (
    -- in two: IS NOT DISTINCT FROM goes by no index, and would read all documents of the tenant
    SELECT file_path FROM knowledge.documents WHERE tenant_id = %(tenant_id)s AND collection_id = %(collection_id)s
        AND external_id = %(external_id)s AND deleted_at IS NULL
    UNION ALL
    SELECT file_path FROM knowledge.documents WHERE tenant_id = %(tenant_id)s AND collection_id IS NULL AND %(collection_id)s::uuid IS NULL
        AND external_id = %(external_id)s AND deleted_at IS NULL
)
INSERT INTO knowledge.documents AS d (tenant_id, collection_id, persona_id, external_id, name, source, source_url, file_path, file_size, metadata)
VALUES (%(tenant_id)s, %(collection_id)s, %(persona_id)s, %(external_id)s, %(name)s, %(source)s, %(source_url)s, %(file_path)s, %(file_size)s,
    %(metadata)s)
ON CONFLICT (tenant_id, collection_id, external_id) WHERE external_id IS NOT NULL AND deleted_at IS NULL
DO UPDATE SET file_path = EXCLUDED.file_path, file_size = EXCLUDED.file_size, name = EXCLUDED.name, source = EXCLUDED.source,
    persona_id = COALESCE(EXCLUDED.persona_id, d.persona_id), metadata = d.metadata || EXCLUDED.metadata, uploaded_at = clock_timestamp()
RETURNING d.id, d.status, d.content_hash, (SELECT file_path FROM before);

-- name: give_chunks_persona
-- Chunks are found by the persona of their document, also those of a version that needs no new ingest.
UPDATE knowledge.chunks c SET persona_id = d.persona_id FROM knowledge.documents d
WHERE d.id = %(id)s AND c.document_id = d.id AND c.persona_id IS DISTINCT FROM d.persona_id;

-- name: get
-- A document that is made of a file: what a persona's memory is has none.
SELECT d.id, d.name, d.file_path, d.uploaded_at, d.mime_type, d.title, d.content_hash, d.status, d.current_version, d.next_version, d.collection_id,
    d.persona_id, COALESCE(c.chunk_size, %(chunk_size)s), COALESCE(c.chunk_overlap, %(chunk_overlap)s)
FROM knowledge.documents d LEFT JOIN knowledge.collections c ON c.id = d.collection_id
WHERE d.id = %(id)s AND d.deleted_at IS NULL AND d.file_path IS NOT NULL;

-- name: lock_upload
-- The file that the document has now. A later time than was read means that it was named again, perhaps for other bytes.
SELECT file_path, uploaded_at FROM knowledge.documents WHERE id = %(id)s AND deleted_at IS NULL FOR UPDATE;

-- name: begin_version
-- That the file was read stands in the audit, written by the same statement: small files are many.
WITH begun AS (
    UPDATE knowledge.documents SET next_version = next_version + 1, status = 'processing', error_message = NULL, title = %(title)s,
        language = %(language)s, content_hash = %(content_hash)s, mime_type = %(mime_type)s, file_size = %(file_size)s, page_count = %(page_count)s
    WHERE id = %(id)s
    RETURNING id, tenant_id, persona_id, file_path, next_version
), noted AS (
    INSERT INTO audit.audit_events (tenant_id, persona_id, event_type, event_category, description, resource_type, resource_id, metadata)
    SELECT tenant_id, persona_id, 'file_access', 'access', 'file of a document read', 'document', id::text,
        jsonb_build_object('file_path', file_path, 'size_bytes', %(file_size)s, 'version', next_version)
    FROM begun
)
SELECT next_version FROM begun;

-- name: insert_text
INSERT INTO knowledge.document_texts (document_id, version, tenant_id, file_path, text, blocks)
VALUES (%(id)s, %(version)s, %(tenant_id)s, %(file_path)s, %(text)s, %(blocks)s);

-- name: get_text
SELECT t.text, t.blocks FROM knowledge.document_texts t WHERE t.document_id = %(id)s AND t.version = %(version)s;

-- name: insert_chunks
-- The hash is that of what is embedded: a text under another header has another vector.
INSERT INTO knowledge.chunks (tenant_id, document_id, collection_id, persona_id, version, chunk_index, header, text, text_hash, token_count,
    page, section, start_offset, end_offset)
SELECT d.tenant_id, d.id, d.collection_id, d.persona_id, %(version)s, c.chunk_index, c.header, c.text,
    sha256(convert_to(concat_ws(E'\n', NULLIF(c.header, ''), c.text), 'UTF8')), c.token_count, c.page, c.section, c.start_offset, c.end_offset
FROM knowledge.documents d, unnest(%(indexes)s::integer[], %(headers)s::text[], %(texts)s::text[], %(tokens)s::integer[],
    %(pages)s::integer[], %(sections)s::text[], %(starts)s::integer[], %(ends)s::integer[])
    AS c (chunk_index, header, text, token_count, page, section, start_offset, end_offset)
WHERE d.id = %(id)s
ON CONFLICT DO NOTHING;

-- name: copy_vectors
-- What the tenant has embedded in this space already is not embedded again. Each text is looked up once and its vector
-- handed to all of its chunks: joined chunk by chunk, a document that repeats one text costs the square of its length.
WITH wanted AS MATERIALIZED (
    SELECT c.tenant_id, c.text_hash, array_agg(c.id) AS chunk_ids FROM knowledge.chunks c
    WHERE c.document_id = %(id)s AND c.version = %(version)s GROUP BY c.tenant_id, c.text_hash
)
INSERT INTO knowledge.chunk_vectors (space_id, chunk_id, tenant_id, embedding)
SELECT %(space_id)s, unnest(wanted.chunk_ids), wanted.tenant_id, known.embedding
FROM wanted
CROSS JOIN LATERAL (
    SELECT v.embedding FROM knowledge.chunks o
    JOIN knowledge.chunk_vectors v ON v.chunk_id = o.id AND v.space_id = %(space_id)s
    WHERE o.tenant_id = wanted.tenant_id AND o.text_hash = wanted.text_hash LIMIT 1
) AS known
ON CONFLICT DO NOTHING;

-- name: missing_chunks
-- Indexes of a version's chunks that have no vector yet in the space.
SELECT c.chunk_index FROM knowledge.chunks c
WHERE c.document_id = %(id)s AND c.version = %(version)s
    AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(space_id)s AND v.chunk_id = c.id)
ORDER BY c.chunk_index;

-- name: chunks_to_embed
SELECT c.id, concat_ws(E'\n', NULLIF(c.header, ''), c.text) FROM knowledge.chunks c
WHERE c.document_id = %(id)s AND c.version = %(version)s AND c.chunk_index BETWEEN %(first)s AND %(last)s
    AND NOT EXISTS (SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(space_id)s AND v.chunk_id = c.id)
ORDER BY c.chunk_index;

-- name: insert_vectors
-- A chunk that went meanwhile (its document was deleted or its version superseded) takes no vector. The vectors travel in
-- binary: as text they cost ten times as much.
INSERT INTO knowledge.chunk_vectors (space_id, chunk_id, tenant_id, embedding)
SELECT %(space_id)s, c.id, c.tenant_id, given.embedding
FROM unnest(%(chunk_ids)s::uuid[], %(vectors)b::vector[]) AS given (chunk_id, embedding)
JOIN knowledge.chunks c ON c.id = given.chunk_id
ON CONFLICT DO NOTHING;

-- name: lock_document
-- The last two embedding tasks of a version must not both find the other's vectors missing.
SELECT current_version, next_version FROM knowledge.documents WHERE id = %(id)s AND deleted_at IS NULL FOR UPDATE;

-- name: hold_active
-- No switch changes the active space until the end of the transaction. Which one it is has to be read by a statement of its own:
-- this one's snapshot is older than the end of a switch that it waited for.
SELECT pg_advisory_xact_lock_shared(7216335408824);

-- name: active
SELECT id FROM knowledge.spaces WHERE kind = 'chunks' AND is_active;

-- name: swap_version
-- Readers see the new version from this commit on, whole.
UPDATE knowledge.documents d SET current_version = %(version)s, completed_at = now(),
    status = CASE WHEN d.next_version = %(version)s THEN 'completed' ELSE d.status END,
    chunk_count = (SELECT count(*) FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = %(version)s)
WHERE d.id = %(id)s AND d.current_version < %(version)s
    -- a version that is not chunked yet lacks no vector either, and is not complete
    AND EXISTS (SELECT FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = %(version)s)
RETURNING d.id;

-- name: delete_older_chunks
DELETE FROM knowledge.chunks WHERE document_id = %(id)s AND version < %(version)s;

-- name: delete_older_texts
-- Returns the files that those versions were made of.
DELETE FROM knowledge.document_texts WHERE document_id = %(id)s AND version < %(version)s RETURNING file_path;

-- name: files_of
-- The stored files of a document: the one that it names, and those of versions that are still there.
SELECT file_path FROM knowledge.documents WHERE id = %(id)s AND file_path IS NOT NULL
UNION SELECT file_path FROM knowledge.document_texts WHERE document_id = %(id)s;

-- name: delete
DELETE FROM knowledge.documents WHERE id = %(id)s RETURNING name;
