-- Counts as before: what a login may see. Users' times are left to whoever writes them, and each write of a user is counted.

DROP TRIGGER note_activity ON identity.session_activities;
DROP TRIGGER note_key_use ON identity.api_keys;
DROP FUNCTION identity.note_activity, identity.note_key_use;
DROP TRIGGER forget_contact ON assistants.conversations;
DROP TRIGGER start_count ON assistants.conversations;
DROP TRIGGER count_moved ON assistants.messages;
DROP FUNCTION assistants.forget_contact, assistants.start_count, assistants.count_moved;
ALTER FUNCTION assistants.note_contact SECURITY INVOKER;
ALTER FUNCTION assistants.count_messages SECURITY INVOKER;
GRANT EXECUTE ON FUNCTION assistants.note_contact, assistants.count_messages TO PUBLIC;

-- To the letter as it was.
CREATE FUNCTION assistants.count_moved() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE c.id WHEN NEW.conversation_id THEN 1 ELSE -1 END, 0)
    WHERE c.id IN (OLD.conversation_id, NEW.conversation_id) AND c.tenant_id = NEW.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_moved AFTER UPDATE OF conversation_id ON assistants.messages FOR EACH ROW
    WHEN (OLD.conversation_id <> NEW.conversation_id) EXECUTE FUNCTION assistants.count_moved();

CREATE OR REPLACE FUNCTION ops.check_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version IS DISTINCT FROM OLD.version THEN
        RAISE EXCEPTION 'version % of the row was read, which is at version %', NEW.version, OLD.version USING ERRCODE = 'GR004',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, HINT = 'Read the row again and repeat the change.';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
DROP TRIGGER check_version ON identity.users;
CREATE TRIGGER check_version BEFORE UPDATE ON identity.users FOR EACH ROW EXECUTE FUNCTION ops.check_version();

COMMENT ON COLUMN assistants.clients.last_contact IS 'Start of the last conversation; kept by trigger';
COMMENT ON COLUMN assistants.conversations.message_count IS 'Kept by trigger on messages';
COMMENT ON COLUMN identity.api_keys.last_used_at IS NULL;
COMMENT ON COLUMN identity.users.last_login_at IS NULL;
COMMENT ON COLUMN identity.users.last_active_at IS NULL;
COMMENT ON COLUMN identity.users.last_used_at IS 'Last access by a key';
COMMENT ON COLUMN people.mapper_configs.usage_count IS 'Personas that it generated';
