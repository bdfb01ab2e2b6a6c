-- The data model: mail in and out. Mailboxes log in by secrets of the vault; how far a folder was read moves in the transaction that
-- inserts its mails; a mail is marked, and that committed, before a server is given it.

CREATE SCHEMA mail;

CREATE TABLE mail.mailboxes (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    address text NOT NULL,
    imap_host text,
    imap_port integer,
    imap_security text,
    imap_login text,
    imap_username text,
    imap_secret_id uuid,
    smtp_host text,
    smtp_port integer,
    smtp_security text,
    smtp_login text,
    smtp_username text,
    smtp_secret_id uuid,
    poll_interval_seconds integer DEFAULT 60 NOT NULL,
    rate_limit integer,
    rate_limit_seconds integer DEFAULT 3600 NOT NULL,
    bodies_to_documents boolean DEFAULT false NOT NULL,
    attachments_to_documents boolean DEFAULT false NOT NULL,
    collection_id uuid,
    is_paused boolean DEFAULT false NOT NULL,
    last_polled_at timestamptz,
    last_error text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT mailboxes_pkey PRIMARY KEY (id),
    CONSTRAINT mailboxes_persona_id_address_key UNIQUE (persona_id, address),
    CONSTRAINT mailboxes_imap_check CHECK (num_nulls(imap_host, imap_port, imap_security, imap_login, imap_username, imap_secret_id) IN (0, 6)),
    CONSTRAINT mailboxes_smtp_check CHECK (num_nulls(smtp_host, smtp_port, smtp_security, smtp_login, smtp_username, smtp_secret_id) IN (0, 6)),
    CONSTRAINT mailboxes_imap_loopback_check CHECK (imap_security <> 'none' OR imap_host ~ '^(localhost|127([.][0-9]{1,3}){3}|::1)$'),
    CONSTRAINT mailboxes_smtp_loopback_check CHECK (smtp_security <> 'none' OR smtp_host ~ '^(localhost|127([.][0-9]{1,3}){3}|::1)$'),
    CONSTRAINT mailboxes_side_check CHECK (num_nonnulls(imap_host, smtp_host) > 0),
    CONSTRAINT mailboxes_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mailboxes_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT mailboxes_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT mailboxes_address_check CHECK (address ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$' AND length(address) <= 255),
    CONSTRAINT mailboxes_imap_host_check CHECK (length(imap_host) BETWEEN 1 AND 255),
    CONSTRAINT mailboxes_imap_port_check CHECK (imap_port BETWEEN 1 AND 65535),
    CONSTRAINT mailboxes_imap_security_check CHECK (imap_security IN ('tls', 'starttls', 'none')),
    CONSTRAINT mailboxes_imap_login_check CHECK (imap_login IN ('password', 'xoauth2')),
    CONSTRAINT mailboxes_imap_username_check CHECK (length(imap_username) BETWEEN 1 AND 255),
    CONSTRAINT mailboxes_imap_secret_id_tenant_id_fkey FOREIGN KEY (imap_secret_id, tenant_id) REFERENCES vault.secrets (id, tenant_id) ON DELETE RESTRICT,
    CONSTRAINT mailboxes_smtp_host_check CHECK (length(smtp_host) BETWEEN 1 AND 255),
    CONSTRAINT mailboxes_smtp_port_check CHECK (smtp_port BETWEEN 1 AND 65535),
    CONSTRAINT mailboxes_smtp_security_check CHECK (smtp_security IN ('tls', 'starttls', 'none')),
    CONSTRAINT mailboxes_smtp_login_check CHECK (smtp_login IN ('password', 'xoauth2')),
    CONSTRAINT mailboxes_smtp_username_check CHECK (length(smtp_username) BETWEEN 1 AND 255),
    CONSTRAINT mailboxes_smtp_secret_id_tenant_id_fkey FOREIGN KEY (smtp_secret_id, tenant_id) REFERENCES vault.secrets (id, tenant_id) ON DELETE RESTRICT,
    CONSTRAINT mailboxes_poll_interval_seconds_check CHECK (poll_interval_seconds BETWEEN 1 AND 86400),
    CONSTRAINT mailboxes_rate_limit_check CHECK (rate_limit > 0),
    CONSTRAINT mailboxes_rate_limit_seconds_check CHECK (rate_limit_seconds > 0),
    CONSTRAINT mailboxes_collection_id_tenant_id_fkey FOREIGN KEY (collection_id, tenant_id) REFERENCES knowledge.collections (id, tenant_id) ON DELETE SET NULL (collection_id)
);
CREATE INDEX mailboxes_collection_id_idx ON mail.mailboxes (collection_id);
CREATE INDEX mailboxes_due_idx ON mail.mailboxes (last_polled_at) WHERE NOT is_paused AND imap_host IS NOT NULL;
CREATE INDEX mailboxes_imap_secret_id_idx ON mail.mailboxes (imap_secret_id);
CREATE INDEX mailboxes_persona_id_idx ON mail.mailboxes (persona_id);
CREATE INDEX mailboxes_smtp_secret_id_idx ON mail.mailboxes (smtp_secret_id);
CREATE INDEX mailboxes_tenant_id_idx ON mail.mailboxes (tenant_id);
COMMENT ON TABLE mail.mailboxes IS 'A persona''s mailbox: where its mail is read (IMAP), where it is sent (SMTP), or both.';
COMMENT ON COLUMN mail.mailboxes.address IS 'The sender of what is sent from here';
COMMENT ON COLUMN mail.mailboxes.imap_security IS 'none: only to this machine';
COMMENT ON COLUMN mail.mailboxes.smtp_security IS 'none: only to this machine';
COMMENT ON COLUMN mail.mailboxes.rate_limit IS 'Mails sent at most in rate_limit_seconds';
COMMENT ON COLUMN mail.mailboxes.bodies_to_documents IS 'Bodies become documents, found by search';
COMMENT ON COLUMN mail.mailboxes.collection_id IS 'Where those documents go';
COMMENT ON COLUMN mail.mailboxes.last_error IS 'None since the last poll that went well';
CREATE TRIGGER touch BEFORE UPDATE ON mail.mailboxes FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE mail.folders (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    mailbox_id uuid NOT NULL,
    name text DEFAULT 'INBOX' NOT NULL,
    uidvalidity bigint,
    last_uid bigint DEFAULT 0 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT folders_pkey PRIMARY KEY (id),
    CONSTRAINT folders_mailbox_id_name_key UNIQUE (mailbox_id, name),
    CONSTRAINT folders_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT folders_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT folders_mailbox_id_tenant_id_fkey FOREIGN KEY (mailbox_id, tenant_id) REFERENCES mail.mailboxes (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT folders_name_check CHECK (length(name) BETWEEN 1 AND 1000),
    CONSTRAINT folders_uidvalidity_check CHECK (uidvalidity BETWEEN 1 AND 4294967295),
    CONSTRAINT folders_last_uid_check CHECK (last_uid BETWEEN 0 AND 4294967295)
);
CREATE INDEX folders_mailbox_id_idx ON mail.folders (mailbox_id);
CREATE INDEX folders_tenant_id_idx ON mail.folders (tenant_id);
COMMENT ON TABLE mail.folders IS 'How far a mailbox''s folder has been read: moved in the transaction that inserts the mails.';
COMMENT ON COLUMN mail.folders.name IS 'Decoded from modified UTF-7';
COMMENT ON COLUMN mail.folders.uidvalidity IS 'None: never read';
COMMENT ON COLUMN mail.folders.last_uid IS 'The greatest that was read; counts within uidvalidity';
CREATE TRIGGER touch BEFORE UPDATE ON mail.folders FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE mail.emails (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    run_id uuid,
    mailbox_id uuid,
    folder text,
    uidvalidity bigint,
    uid bigint,
    direction text NOT NULL,
    status text NOT NULL,
    message_id text,
    in_reply_to text,
    reference_ids text[] DEFAULT '{}' NOT NULL,
    thread_id text,
    from_email text NOT NULL,
    to_email text NOT NULL,
    to_emails text[] DEFAULT '{}' NOT NULL,
    cc text,
    bcc text,
    subject text,
    body_text text,
    body_html text,
    headers jsonb DEFAULT '{}' NOT NULL,
    is_bounce boolean DEFAULT false NOT NULL,
    is_auto_reply boolean DEFAULT false NOT NULL,
    size_bytes bigint,
    content_hash bytea,
    attempt_count integer DEFAULT 0 NOT NULL,
    error_code integer,
    error_message text,
    dated_at timestamptz,
    received_at timestamptz,
    sending_at timestamptz,
    sent_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT emails_pkey PRIMARY KEY (id),
    CONSTRAINT emails_mailbox_id_folder_uidvalidity_uid_key UNIQUE (mailbox_id, folder, uidvalidity, uid),
    CONSTRAINT emails_direction_status_check CHECK ((direction = 'inbound') = (status = 'received')),
    CONSTRAINT emails_place_check CHECK (num_nulls(folder, uidvalidity, uid) IN (0, 3)),
    CONSTRAINT emails_identified_check CHECK (status NOT IN ('sending', 'sent', 'unknown') OR message_id IS NOT NULL),
    CONSTRAINT emails_marked_check CHECK (status NOT IN ('sending', 'unknown') OR sending_at IS NOT NULL),
    CONSTRAINT emails_sent_check CHECK (status <> 'sent' OR sent_at IS NOT NULL),
    CONSTRAINT emails_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT emails_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT emails_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT emails_run_id_tenant_id_fkey FOREIGN KEY (run_id, tenant_id) REFERENCES assistants.runs (id, tenant_id) ON DELETE SET NULL (run_id),
    CONSTRAINT emails_mailbox_id_tenant_id_fkey FOREIGN KEY (mailbox_id, tenant_id) REFERENCES mail.mailboxes (id, tenant_id) ON DELETE SET NULL (mailbox_id),
    CONSTRAINT emails_folder_check CHECK (length(folder) <= 1000),
    CONSTRAINT emails_uidvalidity_check CHECK (uidvalidity BETWEEN 1 AND 4294967295),
    CONSTRAINT emails_uid_check CHECK (uid BETWEEN 1 AND 4294967295),
    CONSTRAINT emails_direction_check CHECK (direction IN ('inbound', 'outbound')),
    CONSTRAINT emails_status_check CHECK (status IN ('received', 'queued', 'sending', 'sent', 'failed', 'unknown')),
    CONSTRAINT emails_message_id_check CHECK (length(message_id) <= 998),
    CONSTRAINT emails_in_reply_to_check CHECK (length(in_reply_to) <= 998),
    CONSTRAINT emails_thread_id_check CHECK (length(thread_id) <= 255),
    CONSTRAINT emails_from_email_check CHECK (length(from_email) <= 255),
    CONSTRAINT emails_to_email_check CHECK (length(to_email) <= 255),
    CONSTRAINT emails_size_bytes_check CHECK (size_bytes >= 0),
    CONSTRAINT emails_content_hash_check CHECK (length(content_hash) = 32),
    CONSTRAINT emails_attempt_count_check CHECK (attempt_count >= 0),
    CONSTRAINT emails_error_code_check CHECK (error_code BETWEEN 200 AND 599)
);
CREATE INDEX emails_content_hash_idx ON mail.emails (mailbox_id, content_hash);
CREATE INDEX emails_created_at_idx ON mail.emails (tenant_id, created_at);
CREATE INDEX emails_mailbox_id_idx ON mail.emails (mailbox_id);
CREATE INDEX emails_message_id_idx ON mail.emails (persona_id, direction, message_id);
CREATE INDEX emails_persona_id_created_at_idx ON mail.emails (persona_id, created_at);
CREATE INDEX emails_persona_id_idx ON mail.emails (persona_id);
CREATE INDEX emails_run_id_idx ON mail.emails (run_id);
CREATE INDEX emails_sending_at_idx ON mail.emails (mailbox_id, sending_at) WHERE sending_at IS NOT NULL;
CREATE INDEX emails_status_idx ON mail.emails (tenant_id, status);
CREATE INDEX emails_thread_id_idx ON mail.emails (tenant_id, thread_id);
COMMENT ON TABLE mail.emails IS 'A mail that a persona received or sends.';
COMMENT ON COLUMN mail.emails.status IS 'sending: the server may have it; unknown: nobody knows, an operator decides';
COMMENT ON COLUMN mail.emails.message_id IS 'Made before the first attempt, kept by each later one';
COMMENT ON COLUMN mail.emails.reference_ids IS 'Message ids of References, the oldest first';
COMMENT ON COLUMN mail.emails.from_email IS 'Empty where a received mail names none';
COMMENT ON COLUMN mail.emails.to_email IS 'The first of to_emails; empty where a received mail names none';
COMMENT ON COLUMN mail.emails.to_emails IS 'All of To';
COMMENT ON COLUMN mail.emails.cc IS 'Addresses, separated by commas';
COMMENT ON COLUMN mail.emails.bcc IS 'Addresses, separated by commas';
COMMENT ON COLUMN mail.emails.body_html IS 'As received; made safe before it is shown';
COMMENT ON COLUMN mail.emails.headers IS 'Those that have no column';
COMMENT ON COLUMN mail.emails.content_hash IS 'SHA-256 of the mail as received: known again under another uidvalidity';
COMMENT ON COLUMN mail.emails.error_code IS 'The server''s reply code';
COMMENT ON COLUMN mail.emails.error_message IS 'The server''s words';
COMMENT ON COLUMN mail.emails.dated_at IS 'What the mail''s Date says';
COMMENT ON COLUMN mail.emails.received_at IS 'When the server had it; of inbound mail';
COMMENT ON COLUMN mail.emails.sending_at IS 'Committed before the server is given the mail';
COMMENT ON COLUMN mail.emails.sent_at IS 'When the server took it; of outbound mail';
CREATE TRIGGER touch BEFORE UPDATE ON mail.emails FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE mail.attachments (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    email_id uuid,
    run_id uuid,
    name text NOT NULL,
    file_path text NOT NULL,
    file_size bigint NOT NULL,
    mime_type text,
    checksum bytea,
    content_id text,
    is_inline boolean DEFAULT false NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT attachments_pkey PRIMARY KEY (id),
    CONSTRAINT attachments_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT attachments_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT attachments_email_id_tenant_id_fkey FOREIGN KEY (email_id, tenant_id) REFERENCES mail.emails (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT attachments_run_id_tenant_id_fkey FOREIGN KEY (run_id, tenant_id) REFERENCES assistants.runs (id, tenant_id) ON DELETE SET NULL (run_id),
    CONSTRAINT attachments_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT attachments_file_size_check CHECK (file_size >= 0),
    CONSTRAINT attachments_mime_type_check CHECK (length(mime_type) <= 100),
    CONSTRAINT attachments_checksum_check CHECK (length(checksum) = 32),
    CONSTRAINT attachments_content_id_check CHECK (length(content_id) <= 998)
);
CREATE INDEX attachments_created_at_idx ON mail.attachments (tenant_id, created_at);
CREATE INDEX attachments_email_id_idx ON mail.attachments (email_id);
CREATE INDEX attachments_file_path_idx ON mail.attachments (tenant_id, file_path);
CREATE INDEX attachments_run_id_idx ON mail.attachments (run_id);
COMMENT ON TABLE mail.attachments IS 'A file that belongs to a mail, or that a run made.';
COMMENT ON COLUMN mail.attachments.name IS 'Made safe: no path';
COMMENT ON COLUMN mail.attachments.file_path IS 'Where it stands in storage';
COMMENT ON COLUMN mail.attachments.file_size IS 'Bytes';
COMMENT ON COLUMN mail.attachments.mime_type IS 'By its content';
COMMENT ON COLUMN mail.attachments.checksum IS 'SHA-256 of the content';
COMMENT ON COLUMN mail.attachments.content_id IS 'By which an HTML body shows it';

-- ---------------------------------------------------------------------------------------------------- row security and grants

GRANT USAGE ON SCHEMA mail TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('mail.mailboxes', 'mail.folders', 'mail.emails', 'mail.attachments');
