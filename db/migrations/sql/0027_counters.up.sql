-- The data model: each cached count and time has one owner. Triggers keep those whose row few write at once, as the owner, so that what
-- row security hides from a login is counted too; the task counters.reconcile keeps the others, and mends all of them.

-- ---------------------------------------------------------------------------------------------------- versions

-- As before, but where nothing changes but columns that are the trigger's arguments, nothing is counted: who read the row need not read
-- it again because its user was seen since.
CREATE OR REPLACE FUNCTION ops.check_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before jsonb;
    after jsonb;
BEGIN
    IF NEW.version IS DISTINCT FROM OLD.version THEN
        RAISE EXCEPTION 'version % of the row was read, which is at version %', NEW.version, OLD.version USING ERRCODE = 'GR004',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, HINT = 'Read the row again and repeat the change.';
    END IF;
    IF TG_NARGS > 0 THEN
        before := to_jsonb(OLD);
        after := to_jsonb(NEW);
        -- Generated columns are not made yet.
        IF (SELECT bool_and(a.attname = ANY (TG_ARGV)) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                AND after -> a.attname IS DISTINCT FROM before -> a.attname) THEN
            RETURN NEW;
        END IF;
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
DROP TRIGGER check_version ON identity.users;
CREATE TRIGGER check_version BEFORE UPDATE ON identity.users FOR EACH ROW
    EXECUTE FUNCTION ops.check_version('last_login_at', 'last_active_at', 'last_used_at');

-- ---------------------------------------------------------------------------------------------------- conversations

ALTER FUNCTION assistants.count_messages SECURITY DEFINER;

-- A conversation begins without messages, whatever its writer says: those that are copied in with it would count twice.
CREATE FUNCTION assistants.start_count() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.message_count := 0;
    RETURN NEW;
END
$$;
CREATE TRIGGER start_count BEFORE INSERT ON assistants.conversations FOR EACH ROW WHEN (NEW.message_count > 0)
    EXECUTE FUNCTION assistants.start_count();

-- As before, and before the update: no trigger for an updated row runs after one that takes it to another month.
CREATE OR REPLACE FUNCTION assistants.count_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE c.id WHEN NEW.conversation_id THEN 1 ELSE -1 END, 0)
    WHERE c.id IN (OLD.conversation_id, NEW.conversation_id) AND c.tenant_id = NEW.tenant_id;
    RETURN NEW;
END
$$;
DROP TRIGGER count_moved ON assistants.messages;
CREATE TRIGGER count_moved BEFORE UPDATE OF conversation_id ON assistants.messages FOR EACH ROW
    WHEN (OLD.conversation_id <> NEW.conversation_id) EXECUTE FUNCTION assistants.count_moved();

ALTER FUNCTION assistants.note_contact SECURITY DEFINER;

-- A conversation that turns out to be another client's, or of another time, was no contact: the client's is that of the others then.
-- One that is deleted was a contact all the same.
CREATE FUNCTION assistants.forget_contact() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM assistants.clients c
    WHERE c.id = OLD.client_id AND c.tenant_id = OLD.tenant_id AND c.last_contact = OLD.started_at FOR NO KEY UPDATE;
    IF FOUND THEN
        -- A statement of its own: it sees what was written while the lock was waited for.
        UPDATE assistants.clients c
        SET last_contact = (SELECT max(o.started_at) FROM assistants.conversations o WHERE o.client_id = c.id)
        WHERE c.id = OLD.client_id AND c.tenant_id = OLD.tenant_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_contact AFTER UPDATE OF client_id, started_at ON assistants.conversations FOR EACH ROW
    WHEN (OLD.client_id IS NOT NULL AND (OLD.client_id IS DISTINCT FROM NEW.client_id OR OLD.started_at <> NEW.started_at))
    EXECUTE FUNCTION assistants.forget_contact();

-- ---------------------------------------------------------------------------------------------------- users

-- Owns users.last_used_at (001): the last use of any of the user's keys, those that are gone included.
CREATE FUNCTION identity.note_key_use() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE identity.users SET last_used_at = NEW.last_used_at
    WHERE id = NEW.user_id AND tenant_id = NEW.tenant_id AND (last_used_at IS NULL OR last_used_at < NEW.last_used_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_key_use AFTER INSERT OR UPDATE OF last_used_at, user_id ON identity.api_keys FOR EACH ROW
    WHEN (NEW.last_used_at IS NOT NULL AND NEW.user_id IS NOT NULL) EXECUTE FUNCTION identity.note_key_use();

-- Owns users.last_active_at (002): the last thing that the user did in a session, to the minute, so that a busy user's row is not
-- written with each of them.
CREATE FUNCTION identity.note_activity() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE identity.users u SET last_active_at = done.at
    FROM (SELECT s.user_id, s.tenant_id, max(a.created_at) AS at FROM added a JOIN identity.user_sessions s ON s.id = a.user_session_id
          GROUP BY s.user_id, s.tenant_id) AS done
    WHERE u.id = done.user_id AND u.tenant_id = done.tenant_id AND u.last_active_at < done.at - interval '1 minute';
    RETURN NULL;
END
$$;
CREATE TRIGGER note_activity AFTER INSERT ON identity.session_activities REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION identity.note_activity();

-- ---------------------------------------------------------------------------------------------------- what they are, in words

COMMENT ON COLUMN assistants.clients.last_contact IS 'Start of the last conversation, there or gone; kept by trigger';
COMMENT ON COLUMN assistants.conversations.message_count IS 'Messages that there are; kept by trigger on them';
COMMENT ON COLUMN identity.api_keys.last_used_at IS 'When it last opened a door; written by whoever looks it up';
COMMENT ON COLUMN identity.users.last_login_at IS 'Written by whoever signs the user in';
COMMENT ON COLUMN identity.users.last_active_at IS 'The last activity of a session, to the minute; kept by trigger';
COMMENT ON COLUMN identity.users.last_used_at IS 'Last access by a key; kept by trigger on them';
COMMENT ON COLUMN people.mapper_configs.usage_count IS 'Personas of it that there are, as last counted';

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION assistants.count_messages, assistants.count_moved, assistants.note_contact, assistants.forget_contact,
    identity.note_key_use, identity.note_activity FROM PUBLIC;
