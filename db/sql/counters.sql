-- Cached counts and times: a page of the rows that hold one, with whether it is right; the rows that are mended, locked; and mended.
-- As the system role, for all tenants. What a statement sees of a row and of what is counted is of one moment, so that a count that
-- its trigger keeps is wrong there only if it is wrong. A time is of something that may be gone since: it is only ever too early.
--
-- Whoever mends locks first, by a statement of its own: the next one counts all that was committed before. Rows that somebody is
-- writing are left out, so nobody waits for a count while holding another, and no circle of waiting can arise.

-- part: messages
SELECT count(*)::integer AS counted FROM assistants.messages m WHERE m.conversation_id = held.id

-- name: look_at_message_count
SELECT held.id, held.message_count <> n.counted
FROM (SELECT id, message_count FROM assistants.conversations WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: messages
) AS n ORDER BY held.id;

-- name: lock_message_count
SELECT id FROM assistants.conversations WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_message_count
UPDATE assistants.conversations c SET message_count = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: messages
) AS n WHERE c.id = held.id AND c.message_count <> n.counted;

-- part: contacts
SELECT max(c.started_at) AS counted FROM assistants.conversations c WHERE c.client_id = held.id

-- name: look_at_last_contact
SELECT held.id, COALESCE(n.counted > COALESCE(held.last_contact, '-infinity'), false)
FROM (SELECT id, last_contact FROM assistants.clients WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: contacts
) AS n ORDER BY held.id;

-- name: lock_last_contact
SELECT id FROM assistants.clients WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_last_contact
UPDATE assistants.clients c SET last_contact = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: contacts
) AS n WHERE c.id = held.id AND n.counted > COALESCE(c.last_contact, '-infinity');

-- part: key_uses
SELECT max(k.last_used_at) AS counted FROM identity.api_keys k WHERE k.user_id = held.id

-- name: look_at_last_used_at
SELECT held.id, COALESCE(n.counted > COALESCE(held.last_used_at, '-infinity'), false)
FROM (SELECT id, last_used_at FROM identity.users WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: key_uses
) AS n ORDER BY held.id;

-- name: lock_last_used_at
SELECT id FROM identity.users WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_last_used_at
UPDATE identity.users u SET last_used_at = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: key_uses
) AS n WHERE u.id = held.id AND n.counted > COALESCE(u.last_used_at, '-infinity');

-- part: activities
-- Session by session: joined, all activities there are would be read for each user where statistics are missing.
SELECT max((SELECT max(a.created_at) FROM identity.session_activities a WHERE a.user_session_id = s.id)) AS counted
FROM identity.user_sessions s WHERE s.user_id = held.id

-- name: look_at_last_active_at
-- To the minute, as its trigger keeps it.
SELECT held.id, COALESCE(n.counted > held.last_active_at + interval '1 minute', false)
FROM (SELECT id, last_active_at FROM identity.users WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: activities
) AS n ORDER BY held.id;

-- name: lock_last_active_at
SELECT id FROM identity.users WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_last_active_at
UPDATE identity.users u SET last_active_at = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: activities
) AS n WHERE u.id = held.id AND n.counted > u.last_active_at + interval '1 minute';

-- part: generated
SELECT count(*)::integer AS counted FROM people.personas p WHERE p.mapper_id = held.id

-- name: look_at_usage_count
SELECT held.id, held.usage_count <> n.counted
FROM (SELECT id, usage_count FROM people.mapper_configs WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: generated
) AS n ORDER BY held.id;

-- name: lock_usage_count
SELECT id FROM people.mapper_configs WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_usage_count
UPDATE people.mapper_configs c SET usage_count = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: generated
) AS n WHERE c.id = held.id AND c.usage_count <> n.counted;

-- part: chunks
SELECT count(*)::integer AS counted FROM knowledge.documents d
JOIN knowledge.chunks c ON c.document_id = d.id AND c.version = d.current_version WHERE d.id = held.id

-- name: look_at_document_chunks
SELECT held.id, held.chunk_count <> n.counted
FROM (SELECT id, chunk_count FROM knowledge.documents WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: chunks
) AS n ORDER BY held.id;

-- name: lock_document_chunks
SELECT id FROM knowledge.documents WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_document_chunks
UPDATE knowledge.documents d SET chunk_count = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: chunks
) AS n WHERE d.id = held.id AND d.chunk_count <> n.counted;

-- part: documents
SELECT count(*)::integer AS counted FROM knowledge.documents d WHERE d.collection_id = held.id AND d.deleted_at IS NULL

-- name: look_at_document_count
SELECT held.id, held.document_count <> n.counted
FROM (SELECT id, document_count FROM knowledge.collections WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: documents
) AS n ORDER BY held.id;

-- name: lock_document_count
SELECT id FROM knowledge.collections WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_document_count
UPDATE knowledge.collections c SET document_count = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: documents
) AS n WHERE c.id = held.id AND c.document_count <> n.counted;

-- part: documents_chunks
SELECT LEAST(COALESCE(sum(d.chunk_count), 0), 2147483647)::integer AS counted
FROM knowledge.documents d WHERE d.collection_id = held.id AND d.deleted_at IS NULL

-- name: look_at_collection_chunks
SELECT held.id, held.chunk_count <> n.counted
FROM (SELECT id, chunk_count FROM knowledge.collections WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS held
CROSS JOIN LATERAL (
    -- include: documents_chunks
) AS n ORDER BY held.id;

-- name: lock_collection_chunks
SELECT id FROM knowledge.collections WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_collection_chunks
UPDATE knowledge.collections c SET chunk_count = n.counted
FROM unnest(%(ids)s::uuid[]) AS held (id) CROSS JOIN LATERAL (
    -- include: documents_chunks
) AS n WHERE c.id = held.id AND c.chunk_count <> n.counted;

-- part: usage
-- Of the day, of the month (UTC) or of all months that are kept; a measure is of the period that it begins in.
SELECT p.since, LEAST(COALESCE(sum(m.metric_value), 0), 9223372036854775807)::bigint AS counted
FROM (SELECT date_trunc(NULLIF(held.period, 'total'), now(), 'UTC') AS since) AS p
LEFT JOIN billing.usage_metrics m ON m.tenant_id = held.tenant_id AND m.metric_type = held.metric_type
    AND m.period_start >= COALESCE(p.since, '-infinity')
GROUP BY p.since

-- name: look_at_used_value
SELECT held.id, (held.used_value, held.used_since) IS DISTINCT FROM (n.counted, n.since)
FROM (
    SELECT id, tenant_id, metric_type, period, used_value, used_since FROM billing.tenant_quotas WHERE id > %(after)s
    ORDER BY id LIMIT %(most)s
) AS held CROSS JOIN LATERAL (
    -- include: usage
) AS n ORDER BY held.id;

-- name: lock_used_value
SELECT id FROM billing.tenant_quotas WHERE id = ANY (%(ids)s) FOR NO KEY UPDATE SKIP LOCKED;

-- name: mend_used_value
UPDATE billing.tenant_quotas q SET used_value = n.counted, used_since = n.since
FROM billing.tenant_quotas held CROSS JOIN LATERAL (
    -- include: usage
) AS n WHERE held.id = ANY (%(ids)s) AND q.id = held.id AND (q.used_value, q.used_since) IS DISTINCT FROM (n.counted, n.since);
