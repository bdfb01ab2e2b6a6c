-- Mail in: polls that failed in a row, what was wrong with a mail, and documents that are made of mail and go with it.

-- ---------------------------------------------------------------------------------------------------- mailboxes and mail

ALTER TABLE mail.mailboxes ADD COLUMN failed_polls integer DEFAULT 0 NOT NULL,
    ADD CONSTRAINT mailboxes_failed_polls_check CHECK (failed_polls >= 0);
COMMENT ON COLUMN mail.mailboxes.failed_polls IS 'In a row: the next comes later with each';

ALTER TABLE mail.emails ADD COLUMN problems text[] DEFAULT '{}' NOT NULL;
COMMENT ON COLUMN mail.emails.problems IS 'What could not be read of it, or was left out';

-- By which retention takes the mail of all tenants.
CREATE INDEX emails_age_idx ON mail.emails (created_at);
-- By which an answer that names no mail finds its thread.
CREATE INDEX emails_persona_id_received_at_idx ON mail.emails (persona_id, received_at);

-- Mailboxes whose last polls failed so often, or that were not polled for long: for `doctor`, which works for no tenant.
CREATE FUNCTION mail.troubled(failures integer, most integer)
    RETURNS TABLE (id uuid, address text, failed_polls integer, last_error text, seconds double precision) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.id, m.address, m.failed_polls, m.last_error, extract(epoch FROM now() - COALESCE(m.last_polled_at, m.created_at))::double precision
    FROM mail.mailboxes m JOIN identity.tenants t ON t.id = m.tenant_id
    WHERE NOT m.is_paused AND m.imap_host IS NOT NULL AND t.status = 'active' AND (m.failed_polls >= failures
        OR COALESCE(m.last_polled_at, m.created_at) < now() - make_interval(secs => GREATEST(3600, m.poll_interval_seconds) * 2))
    ORDER BY m.failed_polls DESC, m.id LIMIT most
$$;
REVOKE EXECUTE ON FUNCTION mail.troubled FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mail.troubled TO greenroom_operator, greenroom_system, greenroom_reader;

-- ---------------------------------------------------------------------------------------------------- documents of mail

ALTER TABLE knowledge.documents ADD COLUMN email_id uuid, ADD COLUMN attachment_id uuid,
    ADD CONSTRAINT documents_email_id_tenant_id_fkey FOREIGN KEY (email_id, tenant_id) REFERENCES mail.emails (id, tenant_id) ON DELETE CASCADE,
    ADD CONSTRAINT documents_attachment_id_tenant_id_fkey FOREIGN KEY (attachment_id, tenant_id) REFERENCES mail.attachments (id, tenant_id) ON DELETE CASCADE;
CREATE INDEX documents_email_id_idx ON knowledge.documents (email_id);
CREATE INDEX documents_attachment_id_idx ON knowledge.documents (attachment_id);
COMMENT ON COLUMN knowledge.documents.email_id IS 'The mail whose body it is: it goes with it';
COMMENT ON COLUMN knowledge.documents.attachment_id IS 'The file of a mail that it is: it goes with it';

-- ---------------------------------------------------------------------------------------------------- policies

-- How long mail is kept, no design says: it stands here switched off.
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, is_enabled, most_share, source, description)
VALUES ('emails', 'mail', 'emails', 'created_at', '1 year', '{}', 'archive', false, 0.5, '000', 'Mail, with its attachments and documents')
ON CONFLICT DO NOTHING;
