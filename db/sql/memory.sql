-- Personas' memories: what is due, what is related, what was made of which chunks. Every query but `due_personas` and `enqueue` runs in a
-- transaction that is bound to one tenant.

-- part: shown
-- Raw chunks that searches find.
knowledge.chunks c JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL AND NOT c.is_curated

-- part: named
-- The same of those that are named: looked up one by one, whatever the planner thinks of a persona.
unnest(%(chunk_ids)s::uuid[]) AS named (id)
CROSS JOIN LATERAL (SELECT * FROM knowledge.chunks o WHERE o.id = named.id OFFSET 0) AS c
JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL AND NOT c.is_curated

-- part: read
-- What grouping needs of a chunk: `v` is its vector.
SELECT c.id, c.document_id, c.chunk_index, c.header, c.text, c.text_hash, COALESCE(c.token_count, greatest(length(c.text) / 4, 1)),
    d.language, v.embedding::real[]

-- name: due
-- The next chunks of a persona that were not considered yet. One that the space lacks waits for its vector.
-- include: read
FROM
-- include: shown
JOIN knowledge.chunk_vectors v ON v.space_id = %(space_id)s AND v.chunk_id = c.id
WHERE c.persona_id = %(persona_id)s AND c.curated_at IS NULL
ORDER BY c.id LIMIT %(limit)s;

-- name: chunks
-- include: read
FROM
-- include: named
CROSS JOIN LATERAL (SELECT o.embedding FROM knowledge.chunk_vectors o WHERE o.space_id = %(space_id)s AND o.chunk_id = c.id OFFSET 0) AS v
WHERE c.persona_id = %(persona_id)s
ORDER BY c.id;

-- name: related
SELECT chunk_id, related_id, similarity FROM knowledge.related_chunks(%(tenant_id)s, %(persona_id)s, %(space_id)s, %(chunk_ids)s::uuid[],
    %(nearest)s, %(at_least)s);

-- name: holding
-- Memories that searches find and that are one of these chunks, or were made of one, with their sources.
WITH held AS MATERIALIZED (
    SELECT o.id FROM unnest(%(chunk_ids)s::uuid[]) AS named (id)
    CROSS JOIN LATERAL (SELECT m.id FROM knowledge.memories m WHERE m.chunk_id = named.id OFFSET 0) AS o
    UNION SELECT o.memory_id FROM unnest(%(chunk_ids)s::uuid[]) AS named (id)
    CROSS JOIN LATERAL (SELECT s.memory_id FROM knowledge.memory_sources s WHERE s.chunk_id = named.id OFFSET 0) AS o
)
SELECT m.id, m.chunk_id, s.chunk_ids, s.merged_into FROM held
CROSS JOIN LATERAL (SELECT * FROM knowledge.memories o WHERE o.id = held.id AND o.status = 'current' OFFSET 0) AS m
CROSS JOIN LATERAL (
    SELECT array_agg(o.chunk_id ORDER BY o.place) AS chunk_ids, array_agg(o.merged_into ORDER BY o.place) AS merged_into
    FROM knowledge.memory_sources o WHERE o.memory_id = m.id
) AS s ORDER BY m.id;

-- name: known
-- Memories of these sources, whatever became of them.
SELECT m.id, m.sources_hash, m.status = 'current', c.header, c.text
FROM knowledge.memories m JOIN knowledge.chunks c ON c.id = m.chunk_id
WHERE m.persona_id = %(persona_id)s AND m.sources_hash = ANY (%(hashes)s);

-- name: lock_persona
-- Whoever deletes the persona waits, or did before.
SELECT id FROM assistants.personas WHERE id = %(persona_id)s FOR KEY SHARE;

-- name: lock
SELECT knowledge.lock_memory(%(persona_id)s);

-- name: lock_chunks
-- Whoever deletes one of these waits from here on. One that is being deleted or changed is left out: nobody waits for it.
SELECT c.id FROM knowledge.chunks c WHERE c.id = ANY (%(chunk_ids)s) ORDER BY c.id FOR NO KEY UPDATE SKIP LOCKED;

-- name: present
-- Those that searches find still.
SELECT c.id FROM
-- include: named
WHERE c.persona_id = %(persona_id)s;

-- name: current
SELECT id FROM knowledge.memories WHERE id = ANY (%(memory_ids)s) AND status = 'current';

-- name: ensure_document
-- A persona's memories in a language are a document: in no collection, as its sources may be of several. Of its two versions, what
-- searches find is the second.
INSERT INTO knowledge.documents (tenant_id, persona_id, external_id, name, source, language, status, current_version, next_version, completed_at)
VALUES (%(tenant_id)s, %(persona_id)s, %(external_id)s, 'memory', 'memory', %(language)s, 'completed', 2, 2, now())
ON CONFLICT (tenant_id, collection_id, external_id) WHERE external_id IS NOT NULL AND deleted_at IS NULL DO NOTHING;

-- name: document
SELECT d.id, COALESCE((SELECT c.chunk_index FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = 1 ORDER BY c.chunk_index DESC LIMIT 1), -1),
    COALESCE((SELECT c.chunk_index FROM knowledge.chunks c WHERE c.document_id = d.id AND c.version = 2 ORDER BY c.chunk_index DESC LIMIT 1), -1)
FROM knowledge.documents d
WHERE d.tenant_id = %(tenant_id)s AND d.collection_id IS NULL AND d.external_id = %(external_id)s AND d.deleted_at IS NULL;

-- name: insert_chunk
INSERT INTO knowledge.chunks (tenant_id, document_id, persona_id, version, chunk_index, header, text, text_hash, token_count,
    start_offset, end_offset, is_curated, source_chunk_ids, curated_at)
VALUES (%(tenant_id)s, %(document_id)s, %(persona_id)s, 2, %(chunk_index)s, %(header)s, %(text)s,
    sha256(convert_to(concat_ws(E'\n', NULLIF(%(header)s::text, ''), %(text)s::text), 'UTF8')), %(token_count)s, 0, length(%(text)s::text), true,
    %(source_ids)s, now())
RETURNING id;

-- name: count_chunk
UPDATE knowledge.documents SET chunk_count = chunk_count + 1 WHERE id = %(document_id)s;

-- name: insert_memory
INSERT INTO knowledge.memories (tenant_id, persona_id, chunk_id, sources_hash, method, model, prompt_version, source_count, source_token_count,
    token_count)
VALUES (%(tenant_id)s, %(persona_id)s, %(chunk_id)s, %(sources_hash)s, %(method)s, %(model)s, %(prompt_version)s, %(source_count)s,
    %(source_token_count)s, %(token_count)s)
RETURNING id;

-- name: show_again
-- A memory of the same sources that is stale, or superseded, or that got a source more which is nearly equal to one it has.
UPDATE knowledge.memories m SET status = 'current', superseded_by = NULL, source_count = %(source_count)s,
    source_token_count = %(source_token_count)s
WHERE m.id = %(memory_id)s RETURNING m.chunk_id;

-- name: link_chunk
UPDATE knowledge.chunks SET source_chunk_ids = %(source_ids)s WHERE id = %(chunk_id)s;

-- name: forget_sources
DELETE FROM knowledge.memory_sources WHERE memory_id = %(memory_id)s;

-- name: insert_sources
INSERT INTO knowledge.memory_sources (memory_id, place, tenant_id, chunk_id, document_id, chunk_index, text_hash, token_count, merged_into)
SELECT %(memory_id)s, s.place - 1, %(tenant_id)s, s.chunk_id, s.document_id, s.chunk_index, s.text_hash, s.token_count, s.merged_into
FROM unnest(%(source_ids)s::uuid[], %(document_ids)s::uuid[], %(indexes)s::integer[], %(hashes)s::bytea[], %(tokens)s::integer[],
    %(merged_into)s::integer[]) WITH ORDINALITY AS s (chunk_id, document_id, chunk_index, text_hash, token_count, merged_into, place);

-- name: supersede
UPDATE knowledge.memories SET status = 'superseded', superseded_by = %(memory_id)s
WHERE id = ANY (%(memory_ids)s) AND id <> %(memory_id)s AND status = 'current';

-- name: mark
UPDATE knowledge.chunks SET curated_at = now() WHERE id = ANY (%(chunk_ids)s);

-- name: due_personas
-- The next personas, by their keys, that have chunks which were not considered, whether or not they have vectors yet. As the system role,
-- for all tenants. Each is one step along the index, however many chunks it has.
WITH RECURSIVE steps AS (
    (SELECT c.persona_id FROM knowledge.chunks c
     WHERE c.curated_at IS NULL AND NOT c.is_curated AND c.persona_id IS NOT NULL AND c.persona_id > %(after)s
     ORDER BY c.persona_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.persona_id FROM knowledge.chunks c
            WHERE c.curated_at IS NULL AND NOT c.is_curated AND c.persona_id IS NOT NULL AND c.persona_id > s.persona_id
            ORDER BY c.persona_id LIMIT 1)
    FROM steps s WHERE s.persona_id IS NOT NULL
)
SELECT p.id, p.tenant_id, t.status = 'active'
FROM (SELECT s.persona_id FROM steps s WHERE s.persona_id IS NOT NULL LIMIT %(most)s) AS s
JOIN assistants.personas p ON p.id = s.persona_id JOIN identity.tenants t ON t.id = p.tenant_id ORDER BY p.id;

-- name: enqueue
-- A task for each persona, unless one of that key waits or runs.
SELECT queue.enqueue(%(task_type)s, jsonb_build_object('persona_id', d.persona_id),
    jsonb_build_object('tenant_id', d.tenant_id, 'unique_key', concat(%(task_type)s::text, ':', d.persona_id)))
FROM unnest(%(persona_ids)s::uuid[], %(tenants)s::uuid[]) AS d (persona_id, tenant_id);

-- name: persona
-- A persona by its id, or by its name.
SELECT p.id, p.name FROM assistants.personas p WHERE p.id::text = %(name)s::text OR p.name = %(name)s::text ORDER BY p.id LIMIT 2;

-- name: counts
-- What a persona knows, and how far it is condensed: raw chunks that searches find with their tokens, those that are due, those of them
-- that lack a vector, memories by status, the tokens of current ones and of their sources.
SELECT r.chunks, r.tokens, r.due, r.waiting, m.current, m.stale, m.superseded, m.sources, m.source_tokens, m.tokens
FROM (
    SELECT count(*) AS chunks, COALESCE(sum(c.token_count), 0) AS tokens, count(*) FILTER (WHERE c.curated_at IS NULL) AS due,
        count(*) FILTER (WHERE c.curated_at IS NULL AND NOT EXISTS (
            SELECT FROM knowledge.chunk_vectors v WHERE v.space_id = %(space_id)s AND v.chunk_id = c.id)) AS waiting
    FROM
    -- include: shown
    WHERE c.persona_id = %(persona_id)s
) AS r, (
    SELECT count(*) FILTER (WHERE o.status = 'current') AS current, count(*) FILTER (WHERE o.status = 'stale') AS stale,
        count(*) FILTER (WHERE o.status = 'superseded') AS superseded,
        COALESCE(sum(o.source_count) FILTER (WHERE o.status = 'current'), 0) AS sources,
        COALESCE(sum(o.source_token_count) FILTER (WHERE o.status = 'current'), 0) AS source_tokens,
        COALESCE(sum(o.token_count) FILTER (WHERE o.status = 'current'), 0) AS tokens
    FROM knowledge.memories o WHERE o.persona_id = %(persona_id)s
) AS m;

-- name: list
-- A persona's memories, newest first.
WITH page AS MATERIALIZED (
    SELECT o.* FROM knowledge.memories o
    WHERE o.persona_id = %(persona_id)s AND (o.status = 'current' OR %(is_all)s) AND (%(before)s::uuid IS NULL OR o.id < %(before)s)
    ORDER BY o.id DESC LIMIT %(limit)s
)
SELECT m.id, m.chunk_id, m.status, m.superseded_by, m.method, m.model, m.prompt_version, m.source_count, m.source_token_count, m.token_count,
    m.created_at, c.text
FROM page m CROSS JOIN LATERAL (SELECT o.text FROM knowledge.chunks o WHERE o.id = m.chunk_id OFFSET 0) AS c ORDER BY m.id DESC;

-- name: sources
-- What curated chunks were made of; the texts of those that are there still.
SELECT m.chunk_id, s.place, s.chunk_id, s.document_id, d.name, s.chunk_index, c.page, c.section, s.token_count, s.merged_into, c.text
FROM unnest(%(chunk_ids)s::uuid[]) AS named (id)
CROSS JOIN LATERAL (SELECT o.id, o.chunk_id FROM knowledge.memories o WHERE o.chunk_id = named.id OFFSET 0) AS m
CROSS JOIN LATERAL (SELECT * FROM knowledge.memory_sources o WHERE o.memory_id = m.id OFFSET 0) AS s
LEFT JOIN LATERAL (SELECT o.name FROM knowledge.documents o WHERE o.id = s.document_id OFFSET 0) AS d ON true
LEFT JOIN LATERAL (SELECT o.page, o.section, o.text FROM knowledge.chunks o WHERE o.id = s.chunk_id OFFSET 0) AS c ON true
ORDER BY m.chunk_id, s.place;
