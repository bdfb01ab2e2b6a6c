-- Mail out: what is to be sent, the marker before a server is given it, and what came of it.

-- name: outgoing
-- A mail with its mailbox, as far as one is left.
SELECT e.id, e.tenant_id, e.status, e.message_id, e.in_reply_to, e.reference_ids, e.from_email, e.to_emails, COALESCE(e.cc, ''),
    COALESCE(e.bcc, ''), COALESCE(e.subject, ''), e.body_text, e.body_html, e.headers, e.is_auto_reply, COALESCE(e.dated_at, e.created_at),
    m.id, m.address, m.is_paused, m.smtp_host, m.smtp_port, m.smtp_security, m.smtp_login, m.smtp_username, m.smtp_secret_id
FROM mail.emails e LEFT JOIN mail.mailboxes m ON m.id = e.mailbox_id
WHERE e.id = %(id)s AND e.direction = 'outbound';

-- name: attachments
SELECT name, file_path, mime_type, checksum, content_id, is_inline FROM mail.attachments WHERE email_id = %(id)s ORDER BY created_at, id;

-- name: lock_limited
-- Whoever marks a mail of a mailbox with a limit does so alone; a statement of its own, so that the count after it sees all others' markers.
SELECT id FROM mail.mailboxes WHERE id = %(mailbox_id)s AND rate_limit IS NOT NULL FOR NO KEY UPDATE;

-- name: seconds_until_free
-- Where a mailbox has given away as many mails as its limit lets it: seconds until the oldest of these leaves the window. By the clock:
-- the transaction may have waited for the lock.
SELECT extract(epoch FROM last.sending_at + make_interval(secs => m.rate_limit_seconds) - clock_timestamp())::float8
FROM mail.mailboxes m CROSS JOIN LATERAL (
    SELECT e.sending_at FROM mail.emails e
    WHERE e.mailbox_id = m.id AND e.sending_at IS NOT NULL
        AND e.sending_at > clock_timestamp() - make_interval(secs => m.rate_limit_seconds)
    ORDER BY e.sending_at DESC OFFSET m.rate_limit - 1 LIMIT 1
) AS last
WHERE m.id = %(mailbox_id)s AND m.rate_limit IS NOT NULL;

-- name: begin
-- The marker: from its commit on the server may have the mail.
UPDATE mail.emails SET status = 'sending', sending_at = clock_timestamp(), attempt_count = attempt_count + 1,
    error_code = NULL, error_message = NULL, refused = '[]'
WHERE id = %(id)s AND direction = 'outbound' AND status IN ('queued', 'failed');

-- name: end_unsent
-- The server has not taken it, by its own words or since it was not given all of it: it waits again, or has failed.
UPDATE mail.emails SET status = %(status)s, sending_at = NULL, error_code = %(code)s, error_message = %(message)s
WHERE id = %(id)s AND direction = 'outbound' AND status IN ('queued', 'failed', 'sending');

-- name: end_sent
UPDATE mail.emails SET status = 'sent', sent_at = clock_timestamp(), size_bytes = %(size)s, refused = %(refused)s,
    error_code = NULL, error_message = NULL
WHERE id = %(id)s AND status = 'sending';

-- name: end_unknown
UPDATE mail.emails SET status = 'unknown', error_message = %(message)s WHERE id = %(id)s AND status = 'sending';

-- name: on_the_way
-- A page of what is queued or being sent, of all tenants.
SELECT id FROM mail.emails WHERE status = %(status)s AND status IN ('queued', 'sending', 'unknown') AND id > %(after)s
ORDER BY id LIMIT %(most)s;

-- name: settle
-- Of these, those that no task works for any more: what may have been given to a server is unknown, the rest was not sent.
WITH left_alone AS (
    SELECT e.id FROM mail.emails e
    WHERE e.id = ANY (%(ids)s) AND e.status IN ('queued', 'sending') AND NOT EXISTS (
        SELECT FROM queue.tasks_live t WHERE t.tenant_id = e.tenant_id AND t.unique_key = 'email.send:' || e.id
    )
    FOR UPDATE OF e SKIP LOCKED
)
UPDATE mail.emails e SET status = CASE e.status WHEN 'sending' THEN 'unknown' ELSE 'failed' END,
    error_message = COALESCE(e.error_message, %(message)s)
FROM left_alone WHERE e.id = left_alone.id
RETURNING e.id, e.status;

-- name: unknown
-- Mails of the tenant that the server may have or not, the longest known first.
SELECT e.id, m.address, e.to_emails, e.subject, e.sending_at, e.message_id, e.error_message
FROM mail.emails e LEFT JOIN mail.mailboxes m ON m.id = e.mailbox_id
WHERE e.status = 'unknown' AND e.id > %(after)s ORDER BY e.id LIMIT %(most)s;

-- name: count_unknown
SELECT slug, mails, since FROM mail.count_unknown();

-- name: status
SELECT status, tenant_id FROM mail.emails WHERE id = %(id)s AND direction = 'outbound' FOR NO KEY UPDATE;

-- name: queue_again
-- It is another attempt at the same mail: the Message-ID stays, by which who has it already knows it again.
UPDATE mail.emails SET status = 'queued', sending_at = NULL, error_code = NULL, error_message = NULL
WHERE id = %(id)s AND status IN ('failed', 'unknown');

-- name: call_sent
UPDATE mail.emails SET status = 'sent', sent_at = sending_at, error_code = NULL, error_message = NULL
WHERE id = %(id)s AND status = 'unknown';
