-- Mail out: a mail that is written as queued is completed and has its task, whoever writes it; what a server refused of it is kept.

ALTER TABLE mail.emails ADD COLUMN refused jsonb DEFAULT '[]' NOT NULL;
ALTER TABLE mail.emails ADD CONSTRAINT emails_refused_check CHECK (jsonb_typeof(refused) = 'array');
COMMENT ON COLUMN mail.emails.refused IS
    'Recipients that the server refused while it took the mail for others: [{"email": …, "code": …, "message": …}]';

-- What is on its way or held as unknown, of all tenants: few of all mails.
CREATE INDEX emails_outgoing_idx ON mail.emails (status, id) WHERE status IN ('queued', 'sending', 'unknown');

-- What the producer left out: whose it is, sender, recipients in both columns, Message-ID and Date (each attempt sends the same bytes),
-- and the thread that an answer goes on with.
CREATE FUNCTION mail.complete_outgoing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sender record;
    begun text;
    answered text[];
BEGIN
    SELECT m.persona_id, m.address INTO sender FROM mail.mailboxes m WHERE m.id = NEW.mailbox_id AND m.tenant_id = NEW.tenant_id;
    NEW.persona_id := COALESCE(NEW.persona_id, sender.persona_id);
    NEW.from_email := COALESCE(NULLIF(NEW.from_email, ''), sender.address, '');
    IF cardinality(NEW.to_emails) = 0 AND NEW.to_email <> '' THEN
        NEW.to_emails := ARRAY[NEW.to_email];
    END IF;
    NEW.to_email := COALESCE(NEW.to_email, left(NEW.to_emails[1], 255), '');
    NEW.dated_at := COALESCE(NEW.dated_at, now());
    NEW.message_id := COALESCE(NEW.message_id, format('<%s@%s>', NEW.id, split_part(sender.address, '@', 2)));
    IF NEW.in_reply_to IS NOT NULL THEN
        SELECT e.thread_id, e.reference_ids INTO begun, answered FROM mail.emails e
        WHERE e.persona_id = NEW.persona_id AND e.direction IN ('inbound', 'outbound') AND e.message_id = NEW.in_reply_to
            AND e.tenant_id = NEW.tenant_id
        ORDER BY e.created_at DESC LIMIT 1;
        IF cardinality(NEW.reference_ids) = 0 THEN
            NEW.reference_ids := array_remove(COALESCE(answered, '{}'), NEW.in_reply_to) || NEW.in_reply_to;
        END IF;
    END IF;
    NEW.thread_id := COALESCE(NEW.thread_id, begun, NEW.reference_ids[1], NEW.message_id);
    IF octet_length(NEW.thread_id) > 2000 OR length(NEW.thread_id) > 998 THEN
        NEW.thread_id := NEW.message_id;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER complete_outgoing BEFORE INSERT ON mail.emails FOR EACH ROW
    WHEN (NEW.direction = 'outbound' AND NEW.status = 'queued' AND NOT ops.is_restoring()) EXECUTE FUNCTION mail.complete_outgoing();

-- The task that sends it, in the transaction that queues it; where its type is not published yet it is held. A mail that has a task
-- that lives gets no second one: the statement is refused by their unique key.
CREATE FUNCTION mail.enqueue_sending() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id, owner_kind, owner_id, unique_key)
    VALUES ('email.send', jsonb_build_object('email_id', NEW.id), NEW.tenant_id, 'email', NEW.id, 'email.send:' || NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER enqueue_sending AFTER INSERT ON mail.emails FOR EACH ROW
    WHEN (NEW.direction = 'outbound' AND NEW.status = 'queued' AND NOT ops.is_restoring()) EXECUTE FUNCTION mail.enqueue_sending();
-- An operator sends it again. A mail whose marker is taken back has a task that runs.
CREATE TRIGGER enqueue_sending_again AFTER UPDATE OF status ON mail.emails FOR EACH ROW
    WHEN (OLD.status IN ('failed', 'unknown') AND NEW.status = 'queued') EXECUTE FUNCTION mail.enqueue_sending();

-- Mails of which nobody knows whether they were sent, by tenant, with the marker of the first: for `doctor`, which works for no tenant.
CREATE FUNCTION mail.count_unknown() RETURNS TABLE (slug text, mails bigint, since timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.slug, count(*), min(e.sending_at) FROM mail.emails e JOIN identity.tenants t ON t.id = e.tenant_id
    WHERE e.status = 'unknown' GROUP BY t.slug ORDER BY t.slug
$$;
REVOKE EXECUTE ON FUNCTION mail.complete_outgoing, mail.enqueue_sending, mail.count_unknown FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mail.count_unknown TO greenroom_operator, greenroom_system, greenroom_reader;
