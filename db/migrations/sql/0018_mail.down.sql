-- Back to no mail: what was received and sent is forgotten; files stay in storage.

DROP TABLE mail.attachments, mail.emails, mail.folders, mail.mailboxes;
DROP SCHEMA mail;
