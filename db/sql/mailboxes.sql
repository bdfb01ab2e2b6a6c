-- Mailboxes and mail as operators see and steer them.

-- name: persona
-- A persona by its id, name or external id.
SELECT p.id FROM assistants.personas p
WHERE p.tenant_id = identity.current_tenant_id() AND (p.id::text = %(persona)s OR p.name = %(persona)s OR p.external_id = %(persona)s)
ORDER BY p.id::text <> %(persona)s, p.id LIMIT 2;

-- name: add
INSERT INTO mail.mailboxes (tenant_id, persona_id, address, imap_host, imap_port, imap_security, imap_login, imap_username, imap_secret_id,
    smtp_host, smtp_port, smtp_security, smtp_login, smtp_username, smtp_secret_id, poll_interval_seconds, rate_limit, rate_limit_seconds,
    bodies_to_documents, attachments_to_documents, collection_id)
VALUES (identity.current_tenant_id(), %(persona_id)s, %(address)s, %(imap_host)s, %(imap_port)s, %(imap_security)s, %(imap_login)s,
    %(imap_username)s, %(imap_secret_id)s, %(smtp_host)s, %(smtp_port)s, %(smtp_security)s, %(smtp_login)s, %(smtp_username)s,
    %(smtp_secret_id)s, %(poll_interval_seconds)s, %(rate_limit)s, %(rate_limit_seconds)s, %(bodies_to_documents)s,
    %(attachments_to_documents)s, %(collection_id)s)
RETURNING id;

-- name: add_folders
INSERT INTO mail.folders (tenant_id, mailbox_id, name)
SELECT identity.current_tenant_id(), %(mailbox_id)s, name FROM unnest(%(names)s::text[]) AS name
ON CONFLICT (mailbox_id, name) DO NOTHING;

-- part: mailbox
SELECT m.id, m.address, p.id, p.name, m.imap_host, m.imap_port, m.imap_security, m.imap_login, m.imap_username, m.smtp_host, m.smtp_port,
    m.smtp_security, m.poll_interval_seconds, m.bodies_to_documents, m.attachments_to_documents, m.is_paused, m.last_polled_at,
    m.last_error, m.failed_polls, (SELECT COALESCE(jsonb_object_agg(f.name, f.last_uid), '{}') FROM mail.folders f WHERE f.mailbox_id = m.id)
FROM mail.mailboxes m JOIN assistants.personas p ON p.id = m.persona_id

-- name: mailboxes
-- A tenant's mailboxes by their addresses.
-- include: mailbox
WHERE m.tenant_id = identity.current_tenant_id() ORDER BY m.address, m.id LIMIT %(most)s;

-- name: mailbox
-- Those of an id or address; one of the same address may be another persona's.
-- include: mailbox
WHERE m.tenant_id = identity.current_tenant_id() AND (m.id::text = %(mailbox)s OR m.address = %(mailbox)s) ORDER BY m.id LIMIT 2;

-- name: set_paused
UPDATE mail.mailboxes SET is_paused = %(is_paused)s WHERE id = %(id)s AND is_paused <> %(is_paused)s;

-- name: remove
-- Its mail stays.
DELETE FROM mail.mailboxes WHERE id = %(id)s RETURNING imap_secret_id, smtp_secret_id;

-- name: remove_secrets
-- Secrets that no mailbox has any more.
DELETE FROM vault.secrets s WHERE s.id = ANY (%(ids)s) AND s.secret_type IN ('email_imap', 'email_smtp')
    AND NOT EXISTS (SELECT FROM mail.mailboxes m WHERE m.imap_secret_id = s.id)
    AND NOT EXISTS (SELECT FROM mail.mailboxes m WHERE m.smtp_secret_id = s.id);

-- name: troubled
-- Mailboxes of all tenants whose last polls failed, or that were not polled for long; those that fail for longest first.
SELECT id, address, failed_polls, last_error, seconds FROM mail.troubled(%(failures)s, %(most)s);

-- name: list
-- A tenant's mails, the newest first, of a mailbox or all; the next page comes after an id.
SELECT e.id, e.direction, e.status, e.from_email, e.to_email, e.subject, COALESCE(e.received_at, e.sent_at, e.created_at), e.folder,
    e.is_bounce, e.is_auto_reply, cardinality(e.problems), (SELECT count(*) FROM mail.attachments a WHERE a.email_id = e.id)
FROM mail.emails e
WHERE e.tenant_id = identity.current_tenant_id() AND (%(mailbox_id)s::uuid IS NULL OR e.mailbox_id = %(mailbox_id)s)
    AND (%(before)s::uuid IS NULL
        OR (e.created_at, e.id) < (SELECT (b.created_at, b.id) FROM mail.emails b WHERE b.id = %(before)s))
ORDER BY e.created_at DESC, e.id DESC LIMIT %(most)s;

-- name: show
SELECT e.id, e.mailbox_id, e.persona_id, e.direction, e.status, e.message_id, e.in_reply_to, e.thread_id, e.from_email, e.to_emails, e.cc,
    e.bcc, e.subject, e.dated_at, e.received_at, e.sent_at, e.folder, e.size_bytes, e.is_bounce, e.is_auto_reply, e.problems, e.headers,
    e.body_text, e.body_html, e.error_message
FROM mail.emails e WHERE e.id = %(id)s;

-- name: attachments
SELECT a.id, a.name, a.mime_type, a.file_size, a.is_inline, a.file_path FROM mail.attachments a WHERE a.email_id = %(email_id)s
ORDER BY a.created_at, a.id;
