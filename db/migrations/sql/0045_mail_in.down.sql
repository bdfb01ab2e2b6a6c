DELETE FROM ops.retention_policies WHERE source = '000' AND name = 'emails';

DROP FUNCTION mail.troubled;
ALTER TABLE knowledge.documents DROP COLUMN attachment_id, DROP COLUMN email_id;
DROP INDEX mail.emails_persona_id_received_at_idx, mail.emails_age_idx;
ALTER TABLE mail.emails DROP COLUMN problems;
ALTER TABLE mail.mailboxes DROP COLUMN failed_polls;
