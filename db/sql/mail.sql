-- Mail in: which mailboxes are due, how far each folder was read, and the mails that came.

-- name: due
-- The next mailboxes by their keys that are to be polled within half a minute, of all tenants. One whose polls fail comes later with each,
-- an hour apart at most, unless its own interval is longer.
SELECT m.id, m.tenant_id FROM mail.mailboxes m JOIN identity.tenants t ON t.id = m.tenant_id
WHERE m.id > %(after)s AND NOT m.is_paused AND m.imap_host IS NOT NULL AND t.status = 'active'
    AND (m.last_polled_at IS NULL OR m.last_polled_at < now() + interval '30 seconds' - make_interval(secs =>
        LEAST(GREATEST(3600, m.poll_interval_seconds), m.poll_interval_seconds * 2 ^ LEAST(GREATEST(m.failed_polls - 1, 0), 12))))
ORDER BY m.id LIMIT %(most)s;

-- name: enqueue
-- A poll of each mailbox, unless one waits or runs.
SELECT queue.enqueue(%(task_type)s, jsonb_build_object('mailbox_id', d.mailbox_id),
    jsonb_build_object('tenant_id', d.tenant_id, 'unique_key', concat(%(task_type)s::text, ':', d.mailbox_id)))
FROM unnest(%(mailbox_ids)s::uuid[], %(tenants)s::uuid[]) AS d (mailbox_id, tenant_id);

-- name: ring
-- A poll of each mailbox that has news, unless one waits; those of which one runs, which may have looked already, are returned.
SELECT d.mailbox_id, queue.enqueue(%(task_type)s, jsonb_build_object('mailbox_id', d.mailbox_id),
        jsonb_build_object('tenant_id', d.tenant_id, 'unique_key', d.key)) IS NOT NULL
    AND EXISTS (SELECT FROM queue.tasks_live t WHERE t.tenant_id = d.tenant_id AND t.unique_key = d.key AND t.status <> 'pending')
FROM (SELECT g.mailbox_id, g.tenant_id, concat(%(task_type)s::text, ':', g.mailbox_id) AS key
    FROM unnest(%(mailbox_ids)s::uuid[], %(tenants)s::uuid[]) AS g (mailbox_id, tenant_id)) AS d;

-- name: watched
-- The mailboxes of all tenants that are to be watched, with their first folders; a secret that changed is another login.
SELECT m.id, m.tenant_id, m.persona_id, m.imap_host, m.imap_port, m.imap_security, m.imap_login, m.imap_username, m.imap_secret_id,
    m.is_paused, m.bodies_to_documents, m.attachments_to_documents, m.collection_id, 0 AS failed_polls,
    (SELECT f.name FROM mail.folders f WHERE f.mailbox_id = m.id ORDER BY f.name <> 'INBOX', f.name LIMIT 1), s.updated_at
FROM mail.mailboxes m JOIN identity.tenants t ON t.id = m.tenant_id JOIN vault.secrets s ON s.id = m.imap_secret_id
WHERE NOT m.is_paused AND m.imap_host IS NOT NULL AND t.status = 'active'
ORDER BY m.id LIMIT %(most)s;

-- name: become_watcher
-- One process watches, as long as its session lives; the others try again.
SELECT pg_try_advisory_lock(hashtextextended('mailboxes.watch', 0));

-- name: reading
-- How a mailbox is read.
SELECT m.id, m.tenant_id, m.persona_id, m.imap_host, m.imap_port, m.imap_security, m.imap_login, m.imap_username, m.imap_secret_id,
    m.is_paused, m.bodies_to_documents, m.attachments_to_documents, m.collection_id, m.failed_polls
FROM mail.mailboxes m WHERE m.id = %(id)s AND m.imap_host IS NOT NULL;

-- name: folders
-- How far a mailbox was read, the inbox first.
SELECT f.id, f.name, f.uidvalidity, f.last_uid FROM mail.folders f WHERE f.mailbox_id = %(id)s ORDER BY f.name <> 'INBOX', f.name;

-- name: lock
-- Who writes what came to a mailbox keeps others from it, that is, from the same mails.
SELECT m.id FROM mail.mailboxes m WHERE m.id = %(id)s FOR NO KEY UPDATE;

-- name: cursor
SELECT f.uidvalidity, f.last_uid FROM mail.folders f WHERE f.id = %(id)s;

-- name: move_cursor
UPDATE mail.folders SET uidvalidity = %(uidvalidity)s, last_uid = %(last_uid)s WHERE id = %(id)s;

-- name: known
-- Those of some mails that the mailbox has already.
SELECT DISTINCT e.content_hash FROM mail.emails e WHERE e.mailbox_id = %(mailbox_id)s AND e.content_hash = ANY (%(hashes)s);

-- name: place
-- A mail that stood elsewhere in the mailbox, or under another UIDVALIDITY, stands here now. Two of the same bytes side by side are two.
UPDATE mail.emails e SET folder = %(folder)s, uidvalidity = %(uidvalidity)s, uid = %(uid)s
WHERE e.id = (
    SELECT f.id FROM mail.emails f
    WHERE f.mailbox_id = %(mailbox_id)s AND f.content_hash = %(content_hash)s AND f.direction = 'inbound'
        AND (f.folder, f.uidvalidity) IS DISTINCT FROM (%(folder)s, %(uidvalidity)s)
    ORDER BY f.folder IS DISTINCT FROM %(folder)s, f.uid LIMIT 1)
RETURNING e.id;

-- name: insert
-- A mail that came. The audit's event is written by a trigger.
INSERT INTO mail.emails (tenant_id, persona_id, mailbox_id, folder, uidvalidity, uid, direction, status, message_id, in_reply_to,
    reference_ids, thread_id, from_email, to_email, to_emails, cc, bcc, subject, body_text, body_html, headers, problems, is_bounce,
    is_auto_reply, size_bytes, content_hash, dated_at, received_at)
SELECT m.tenant_id, m.persona_id, m.id, %(folder)s, %(uidvalidity)s, %(uid)s, 'inbound', 'received', %(message_id)s, %(in_reply_to)s,
    %(reference_ids)s, %(thread_id)s, %(from_email)s, %(to_email)s, %(to_emails)s, %(cc)s, %(bcc)s, %(subject)s, %(body_text)s,
    %(body_html)s, %(headers)s, %(problems)s, %(is_bounce)s, %(is_auto_reply)s, %(size_bytes)s, %(content_hash)s, %(dated_at)s,
    COALESCE(%(received_at)s, clock_timestamp())
FROM mail.mailboxes m WHERE m.id = %(mailbox_id)s
ON CONFLICT (mailbox_id, folder, uidvalidity, uid) DO NOTHING
RETURNING id;

-- name: insert_attachment
INSERT INTO mail.attachments (tenant_id, email_id, name, file_path, file_size, mime_type, checksum, content_id, is_inline)
SELECT e.tenant_id, e.id, %(name)s, %(file_path)s, %(file_size)s, %(mime_type)s, %(checksum)s, %(content_id)s, %(is_inline)s
FROM mail.emails e WHERE e.id = %(email_id)s
RETURNING id;

-- name: own_document
-- A document that is made of a mail goes with it.
UPDATE knowledge.documents SET email_id = %(email_id)s, attachment_id = %(attachment_id)s WHERE id = %(id)s;

-- name: threads
-- The threads of mails that the persona received or sent, by their message ids.
SELECT e.message_id, e.thread_id FROM mail.emails e
WHERE e.persona_id = %(persona_id)s AND e.direction IN ('inbound', 'outbound') AND e.message_id = ANY (%(message_ids)s)
    AND e.thread_id IS NOT NULL
ORDER BY e.created_at DESC;

-- name: like_subject
-- Mails of a span of time, the newest first, whose subjects end with one and that are from or to somebody of those named.
SELECT e.thread_id, e.subject FROM mail.emails e
WHERE e.persona_id = %(persona_id)s AND e.received_at BETWEEN %(since)s AND %(until)s AND e.thread_id IS NOT NULL
    AND right(lower(e.subject), length(%(subject)s)) = %(subject)s
    AND (e.from_email = ANY (%(people)s) OR e.to_emails && %(people)s)
ORDER BY e.received_at DESC LIMIT 20;

-- name: join_threads
-- Mails that answered one before it was there belong to its thread.
UPDATE mail.emails e SET thread_id = %(thread_id)s
WHERE e.tenant_id = %(tenant_id)s AND e.persona_id = %(persona_id)s AND e.thread_id = %(message_id)s;

-- name: polled
-- A poll that came to its end; one that failed says why.
UPDATE mail.mailboxes SET last_polled_at = clock_timestamp(), last_error = %(error)s,
    failed_polls = CASE WHEN %(error)s::text IS NULL THEN 0 ELSE failed_polls + 1 END
WHERE id = %(id)s;
