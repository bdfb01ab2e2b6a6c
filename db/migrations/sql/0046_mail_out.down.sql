-- Queued mails wait for whoever sends them.

DROP TRIGGER enqueue_sending_again ON mail.emails;
DROP TRIGGER enqueue_sending ON mail.emails;
DROP TRIGGER complete_outgoing ON mail.emails;
DROP FUNCTION mail.count_unknown, mail.enqueue_sending, mail.complete_outgoing;
DROP INDEX mail.emails_outgoing_idx;
ALTER TABLE mail.emails DROP COLUMN refused;
