-- What the data model left open: tools by their words, MCP servers that others use, what users see of each other, a few rules.

-- ---------------------------------------------------------------------------------------------------- rules

-- What is no address of mail is kept in the tenant's metadata.
UPDATE identity.tenants SET contact_email = NULL, metadata = metadata || jsonb_build_object('invalid_contact_email', contact_email)
WHERE NOT (contact_email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$');
ALTER TABLE identity.tenants DROP CONSTRAINT tenants_contact_email_check, ADD CONSTRAINT tenants_contact_email_check
    CHECK (contact_email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$' AND length(contact_email) <= 255);

-- A thread goes by the message id that began it, and is as long. In bytes: it stands in an index, whose rows have a limit.
ALTER TABLE mail.emails DROP CONSTRAINT emails_thread_id_check, ADD CONSTRAINT emails_thread_id_check
    CHECK (length(thread_id) <= 998 AND octet_length(thread_id) <= 2000);
COMMENT ON COLUMN mail.emails.thread_id IS 'The message id that began it; at most 2,000 bytes: it stands in an index';

-- Sources are a summary's (000). Those of what is none are kept in its metadata.
UPDATE knowledge.chunks SET source_chunk_ids = NULL, metadata = metadata || jsonb_build_object('uncurated_source_chunk_ids', source_chunk_ids)
WHERE NOT is_curated AND source_chunk_ids IS NOT NULL;
ALTER TABLE knowledge.chunks ADD CONSTRAINT chunks_sources_check CHECK (is_curated OR source_chunk_ids IS NULL);

-- ---------------------------------------------------------------------------------------------------- MCP servers

-- As before, and a value that is missing is told as such. The lock is the one that the key takes afterwards: who withdraws the
-- server meanwhile waits for this row, or this row for who does.
CREATE OR REPLACE FUNCTION tools.check_mcp_server() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nulls(NEW.mcp_server_id, NEW.tenant_id) > 0 THEN
        RETURN NEW;
    END IF;
    PERFORM FROM tools.mcp_servers s WHERE s.id = NEW.mcp_server_id AND (s.is_public OR s.tenant_id = NEW.tenant_id) FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no MCP server % that tenant % may use', NEW.mcp_server_id, NEW.tenant_id
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'tools', TABLE = TG_ARGV[0], CONSTRAINT = TG_ARGV[0] || '_mcp_server_id_fkey';
    END IF;
    RETURN NEW;
END
$$;

-- As before, and a value that is missing is told as such. Looks by the message's key alone, as the owner: with the tenant beside it
-- the planner may go by the tenant's messages of that moment, all of those that one transaction wrote.
CREATE OR REPLACE FUNCTION tools.check_message() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner uuid;
BEGIN
    SELECT m.tenant_id INTO owner FROM assistants.messages m WHERE m.id = NEW.message_id AND m.created_at = NEW.message_created_at;
    IF NEW.tenant_id IS NOT NULL AND owner IS DISTINCT FROM NEW.tenant_id THEN
        RAISE EXCEPTION 'tenant % has no message % of %', NEW.tenant_id, NEW.message_id, NEW.message_created_at
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'tools', TABLE = TG_ARGV[0],
                CONSTRAINT = TG_ARGV[0] || '_message_id_message_created_at_fkey';
    END IF;
    RETURN NEW;
END
$$;

-- A server that other tenants have configured is neither deleted nor withdrawn: their configurations would go along, or point to
-- what they do not see. It goes with its tenant all the same.
CREATE FUNCTION tools.keep_used_server() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    left_to CONSTANT uuid := CASE TG_OP WHEN 'UPDATE' THEN NEW.tenant_id ELSE OLD.tenant_id END;
BEGIN
    -- Who is configuring it holds its key: the lock waits for them, the statement after it sees what they did.
    PERFORM FROM tools.mcp_servers s WHERE s.id = OLD.id FOR UPDATE;
    IF EXISTS (SELECT FROM tools.mcp_server_configs c WHERE c.mcp_server_id = OLD.id AND c.tenant_id IS DISTINCT FROM left_to)
        AND (OLD.tenant_id IS NULL OR EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status <> 'deleted'))
    THEN
        RAISE EXCEPTION 'the MCP server % is in use: other tenants have configured it', OLD.id
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'tools', TABLE = 'mcp_server_configs',
                CONSTRAINT = 'mcp_server_configs_mcp_server_id_fkey',
                HINT = 'Set its status to deprecated or disabled, and delete it when their configurations are gone.';
    END IF;
    RETURN CASE TG_OP WHEN 'UPDATE' THEN NEW ELSE OLD END;
END
$$;
CREATE TRIGGER keep_deleted BEFORE DELETE ON tools.mcp_servers FOR EACH ROW EXECUTE FUNCTION tools.keep_used_server();
CREATE TRIGGER keep_withdrawn BEFORE UPDATE OF is_public, tenant_id ON tools.mcp_servers FOR EACH ROW
    WHEN (NOT NEW.is_public) EXECUTE FUNCTION tools.keep_used_server();

-- ---------------------------------------------------------------------------------------------------- tools

-- Tools of one tenant whose description holds the words of a query (as websearch_to_tsquery reads it), best first; of one
-- category where that is given. Takes the tenant explicitly and runs as the owner: the operator is not leakproof, so row security
-- would keep its index from being used.
CREATE FUNCTION tools.find_tools(tenant uuid, query_text text DEFAULT NULL, category text DEFAULT NULL, "limit" integer DEFAULT 20)
    RETURNS SETOF tools.tools LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    query CONSTANT tsquery := websearch_to_tsquery('english', query_text);
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM tenant THEN
        RAISE EXCEPTION 'search of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    RETURN QUERY
    SELECT t.* FROM tools.tools t
    WHERE t.tenant_id = tenant
        AND (query IS NULL OR to_tsvector('english', t.description) @@ query)
        AND (find_tools.category IS NULL OR t.category = find_tools.category)
    ORDER BY ts_rank(to_tsvector('english', t.description), query) DESC, t.id
    LIMIT "limit";
END
$$;

-- ---------------------------------------------------------------------------------------------------- spaces

-- The owner passes in a space's partition too: a backup and a data migration read partitions by themselves.
DO $$
DECLARE
    known CONSTANT text := pg_get_functiondef('knowledge.create_space'::regproc);
    forced CONSTANT text := $q$    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', leaf);
$q$;
    passes CONSTANT text := $q$    EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', leaf);
$q$;
    leaf regclass;
BEGIN
    ASSERT strpos(known, forced) > 0, 'knowledge.create_space does not force row security';
    EXECUTE replace(known, forced, forced || passes);
    FOR leaf IN SELECT h.inhrelid FROM knowledge.spaces s JOIN pg_inherits h ON h.inhparent = knowledge.vectors_of(s.kind)
            GROUP BY h.inhrelid LOOP
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', leaf);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- row security and grants

-- Who acts for a user has that user's keys, sessions, clients and conversations. An agent talks with a user (004), a voice
-- persona for one (003): its own policy looks at the user, and so does a conversation's for its messages.
SELECT ops.bind_to_user('identity.sessions');
SELECT ops.bind_to_user('identity.api_keys');
SELECT ops.bind_to_user('assistants.clients');
SELECT ops.bind_to_user('assistants.conversations', 'user_id = (SELECT identity.current_user_id())'
    ' OR EXISTS (SELECT FROM assistants.voice_personas p WHERE p.id = conversations.persona_id)');
SELECT ops.bind_to_user('assistants.messages',
    'EXISTS (SELECT FROM assistants.conversations c WHERE c.id = messages.conversation_id)');

-- A reader that is bound to a tenant knows that one; bound to none it finds one by its slug, and sees rows of no one's.
CREATE POLICY reader_binds ON identity.tenants AS RESTRICTIVE TO greenroom_reader
    USING ((SELECT identity.current_tenant_id()) IS NULL OR id = (SELECT identity.current_tenant_id()));

REVOKE EXECUTE ON FUNCTION tools.check_mcp_server, tools.check_message, tools.keep_used_server, tools.find_tools FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tools.find_tools TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
