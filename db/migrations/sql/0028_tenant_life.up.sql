-- A tenant's life: operators add, suspend and delete tenants; keys and sessions open while their tenant is active; a deleted tenant
-- is erased by a task, page by page, and its row goes last.

-- ---------------------------------------------------------------------------------------------------- what is a tenant's

-- The tables that tenants own, found in the catalogue: those with a tenant's key that the owner may look into under row security.
-- `manner` is how a tenant's rows are found in one: by an index that begins with the tenant; along with rows that they belong to, by
-- a foreign key that is never empty and cascades; or by a walk over all of it. `parents` are the tables that it refers to, `kept`
-- those whose rows cannot go before its own.
CREATE FUNCTION ops.tenant_tables() RETURNS TABLE (relation regclass, manner text, parents regclass[], kept regclass[])
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH owned AS (
        SELECT c.oid, a.attnum FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype
            AND NOT a.attisdropped AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'owner_passes')
    )
    SELECT o.oid::regclass, CASE
            WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = o.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = o.attnum)
                THEN 'index'
            WHEN EXISTS (SELECT FROM pg_constraint k JOIN owned p ON p.oid = k.confrelid
                WHERE k.conrelid = o.oid AND k.contype = 'f' AND k.confdeltype = 'c' AND k.confrelid <> o.oid AND NOT EXISTS (
                    SELECT FROM pg_attribute f WHERE f.attrelid = o.oid AND f.attnum = ANY (k.conkey) AND NOT f.attnotnull)) THEN 'parent'
            ELSE 'walk'
        END, r.parents, r.kept
    FROM owned o CROSS JOIN LATERAL (
        SELECT COALESCE(array_agg(DISTINCT k.confrelid::regclass), '{}') AS parents,
            COALESCE(array_agg(DISTINCT k.confrelid::regclass) FILTER (WHERE k.confdeltype IN ('a', 'r')), '{}') AS kept
        FROM pg_constraint k JOIN owned p ON p.oid = k.confrelid
        WHERE k.conrelid = o.oid AND k.contype = 'f' AND k.confrelid <> o.oid
    ) AS r
$$;
COMMENT ON FUNCTION ops.tenant_tables IS 'Tables that tenants own, how one''s rows are found in each, and what each refers to.';

-- A table that still has rows of a tenant, or NULL. Those that are found by a walk are not looked at: they are the queue's.
CREATE FUNCTION ops.tenant_leftover(tenant uuid) RETURNS regclass LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = on AS $$
DECLARE
    owned record;
    is_left boolean;
BEGIN
    FOR owned IN SELECT * FROM ops.tenant_tables() t WHERE t.manner = 'index' ORDER BY t.relation::text LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tenant_id = %L)', owned.relation, tenant) INTO is_left;
        IF is_left THEN
            RETURN owned.relation;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- The hold that forbids to erase a tenant, with its reason, or NULL: one of the tenant's own, or one across tenants that speaks of
-- a row of this one's.
CREATE FUNCTION ops.tenant_hold(tenant uuid) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET enable_seqscan = on AS $$
DECLARE
    hold ops.retention_policies;
    relation regclass;
    is_held boolean;
BEGIN
    FOR hold IN SELECT * FROM ops.retention_policies h WHERE h.is_held AND COALESCE(h.tenant_id = tenant, true)
        ORDER BY h.tenant_id NULLS LAST, h.name LOOP
        is_held := hold.tenant_id IS NOT NULL;
        relation := to_regclass(format('%I.%I', hold.table_schema, hold.table_name));
        IF NOT is_held AND (relation = 'identity.tenants'::regclass OR EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id' AND NOT a.attisdropped)) THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s r WHERE r.%I = %L AND to_jsonb(r) @> %L)', relation,
                CASE WHEN relation = 'identity.tenants'::regclass THEN 'id' ELSE 'tenant_id' END, tenant,
                hold.filter || jsonb_strip_nulls(jsonb_build_object('persona_id', hold.persona_id))) INTO is_held;
        END IF;
        IF is_held THEN
            RETURN format('%s (%s)', hold.name, hold.hold_reason);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------------------------------------------- deletion

-- Who is deleted stays so, the default tenant is not, and a row goes when nothing refers to it any more: a DELETE alone would take
-- along all that a tenant has in one transaction, and leave its files, its tasks and its audit.
CREATE FUNCTION identity.check_life() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    broken text := CASE
        WHEN TG_OP = 'DELETE' THEN CASE WHEN OLD.status <> 'deleted' OR ops.tenant_leftover(OLD.id) IS NOT NULL
            THEN 'tenants_is_erased_check' END
        WHEN NEW.status = 'deleted' THEN CASE WHEN NEW.id = identity.default_tenant_id() THEN 'tenants_default_stays_check' END
        WHEN TG_OP = 'UPDATE' THEN CASE WHEN OLD.status = 'deleted' THEN 'tenants_stays_deleted_check' END
    END;
BEGIN
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'a tenant cannot become so: %', broken USING ERRCODE = 'check_violation',
            SCHEMA = 'identity', TABLE = 'tenants', CONSTRAINT = broken,
            HINT = 'A tenant goes by the status deleted: the task tenant.erase takes all that it has, and its row at last.';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF NEW.status = 'deleted' THEN
        NEW.deleted_at := COALESCE(NEW.deleted_at, now());
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_life BEFORE INSERT OR UPDATE OR DELETE ON identity.tenants FOR EACH ROW EXECUTE FUNCTION identity.check_life();

-- Whoever deletes a tenant, by whatever statement, has it erased; said again, it is enqueued again, once at a time.
CREATE FUNCTION identity.erase_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO queue.outbox_tasks (task_type, payload, unique_key)
    VALUES ('tenant.erase', jsonb_build_object('tenant_id', NEW.id), 'tenant.erase:' || NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER erase_deleted AFTER INSERT OR UPDATE OF status ON identity.tenants FOR EACH ROW WHEN (NEW.status = 'deleted')
    EXECUTE FUNCTION identity.erase_deleted();

-- ---------------------------------------------------------------------------------------------------- erasure

-- Take rows of a deleted tenant out of a table: up to `most` where an index finds them, those of some blocks from `first_block` on
-- where a walk does. `next_block` is where to go on, NULL at the end. A hold that is set meanwhile waits for the end; one that
-- stands refuses (GR005).
CREATE FUNCTION ops.erase_page(tenant uuid, relation regclass, most integer, first_block bigint, OUT gone bigint, OUT next_block bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = on AS $$
DECLARE
    step CONSTANT bigint := 256;
    wanted CONSTANT text := (SELECT t.manner FROM ops.tenant_tables() t WHERE t.relation = erase_page.relation);
    last_block bigint;
BEGIN
    IF wanted IS NULL OR NOT EXISTS (SELECT FROM identity.tenants t WHERE t.id = tenant AND t.status = 'deleted') THEN
        RAISE EXCEPTION 'nothing of the tenant % is erased in %', tenant, relation USING ERRCODE = '22023',
            HINT = 'Only of a tenant whose status is deleted, and in tables that tenants own.';
    END IF;
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    IF ops.tenant_hold(tenant) IS NOT NULL THEN
        RAISE EXCEPTION 'held by %', ops.tenant_hold(tenant) USING ERRCODE = 'GR005';
    END IF;
    gone := 0;
    IF wanted = 'index' THEN
        EXECUTE format('DELETE FROM %s d USING (SELECT r.tableoid, r.ctid FROM %s r WHERE r.tenant_id = %L LIMIT %L) AS o '
            'WHERE d.tableoid = o.tableoid AND d.ctid = o.ctid', relation, relation, tenant, most);
        GET DIAGNOSTICS gone = ROW_COUNT;
        next_block := CASE WHEN gone >= most THEN 0 END;
    ELSIF wanted = 'walk' THEN
        EXECUTE format('DELETE FROM %s WHERE tenant_id = %L AND ctid >= %L AND ctid < %L', relation, tenant,
            format('(%s,0)', first_block), format('(%s,0)', first_block + step));
        GET DIAGNOSTICS gone = ROW_COUNT;
        SELECT max(pg_relation_size(l.relid)) / current_setting('block_size')::bigint INTO last_block
        FROM pg_partition_tree(relation) l WHERE l.isleaf;
        next_block := CASE WHEN first_block + step < last_block THEN first_block + step END;
    END IF;
END
$$;

-- Leave nothing of a deleted tenant's row but its key.
CREATE FUNCTION ops.empty_tenant(tenant uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE identity.tenants SET name = 'Erased', slug = 'erased-' || id, max_agents = NULL, max_daily_requests = NULL,
        max_monthly_tokens = NULL, contact_email = NULL, contact_name = NULL, settings = '{}', metadata = '{}'
    WHERE id = tenant AND status = 'deleted'
$$;

-- Take the row of a tenant that nothing is left of, its limits, and tasks that somebody enqueued for it since; whoever still
-- refers to it is waited for, and whoever comes late is refused by the foreign keys.
CREATE FUNCTION ops.remove_tenant(tenant uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET enable_seqscan = on AS $$
BEGIN
    -- What ended since the tenant was deleted may have moved to where the walk had been.
    DELETE FROM queue.tasks_live WHERE tenant_id = tenant;
    DELETE FROM queue.tasks_history h USING identity.tenants t
    WHERE t.id = tenant AND h.tenant_id = tenant AND h.completed_at >= t.deleted_at;
    DELETE FROM queue.attempts a USING identity.tenants t
    WHERE t.id = tenant AND a.tenant_id = tenant AND a.ended_at >= t.deleted_at;
    DELETE FROM identity.tenants WHERE id = tenant;
    DELETE FROM queue.tasks_live WHERE tenant_id = tenant;
    DELETE FROM queue.limits WHERE kind = 'tenant' AND name = tenant::text;
    DELETE FROM queue.limit_tokens WHERE kind = 'tenant' AND name = tenant::text;
END
$$;

-- ---------------------------------------------------------------------------------------------------- the audit of an erasure

-- Rows of a deleted tenant go without a note, which would keep what they held; its own row's end is noted. And a
-- deleted tenant's part of the audit can be deleted.
DO $$
DECLARE
    noting CONSTANT text := pg_get_functiondef('audit.log_change'::regproc);
    refusing CONSTANT text := pg_get_functiondef('audit.refuse_change'::regproc);
    skipping CONSTANT text := replace(noting, $q$    INSERT INTO audit.audit_log ($q$,
        $q$    IF TG_OP = 'DELETE' AND relation <> 'identity.tenants'::regclass
        AND EXISTS (SELECT FROM identity.tenants t WHERE t.id = tenant AND t.status = 'deleted') THEN
        RETURN NULL;
    END IF;
    INSERT INTO audit.audit_log ($q$);
    letting CONSTANT text := replace(refusing, $q$    RAISE EXCEPTION $q$,
        $q$    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status = 'deleted') THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION $q$);
BEGIN
    ASSERT skipping <> noting, 'audit.log_change is another one';
    ASSERT letting <> refusing, 'audit.refuse_change is another one';
    EXECUTE skipping;
    EXECUTE letting;
END
$$;

-- ---------------------------------------------------------------------------------------------------- keys

-- The API key of one of these hashes (one for each pepper that it may have been hashed with), while it opens: it is active and in
-- time, its tenant active, and its user, where it has one. Notes its use, once a minute at the most: each note writes the row.
CREATE FUNCTION identity.find_api_key(key_hashes text[], OUT id uuid, OUT tenant_id uuid, OUT user_id uuid, OUT name text,
        OUT scopes jsonb, OUT expires_at timestamptz)
    RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_key uuid;
BEGIN
    -- by the hash first, or a database without statistics goes by the tenant
    WITH held AS MATERIALIZED (
        SELECT * FROM identity.api_keys k
        WHERE k.key_hash = ANY (key_hashes) AND k.status = 'active' AND COALESCE(k.expires_at > now(), true)
    )
    SELECT k.id, k.id, k.tenant_id, k.user_id, k.name, k.scopes, k.expires_at
    INTO found_key, find_api_key.id, find_api_key.tenant_id, find_api_key.user_id, find_api_key.name, find_api_key.scopes,
        find_api_key.expires_at
    FROM held k JOIN identity.tenants t ON t.id = k.tenant_id
        LEFT JOIN identity.users u ON u.id = k.user_id AND u.tenant_id = k.tenant_id
    WHERE t.status = 'active' AND t.deleted_at IS NULL AND (k.user_id IS NULL OR u.is_active AND u.deleted_at IS NULL)
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF NOT current_setting('transaction_read_only')::boolean THEN
        UPDATE identity.api_keys SET last_used_at = now() WHERE id = ANY (ARRAY(
            SELECT k.id FROM identity.api_keys k
            WHERE k.id = found_key AND COALESCE(k.last_used_at <= now() - interval '1 minute', true)
            -- who comes at the same moment has nothing to add
            FOR NO KEY UPDATE SKIP LOCKED));
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION identity.find_api_key IS 'An API key by its hash, while it opens; notes its use.';

-- The session of a token's hash, while it opens: it is in time, its tenant and its user are active.
CREATE FUNCTION identity.find_session(token_hash text, OUT id uuid, OUT tenant_id uuid, OUT user_id uuid, OUT expires_at timestamptz)
    RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH held AS MATERIALIZED (
        SELECT * FROM identity.sessions s WHERE s.token_hash = find_session.token_hash AND s.expires_at > now()
    )
    SELECT s.id, s.tenant_id, s.user_id, s.expires_at
    FROM held s JOIN identity.tenants t ON t.id = s.tenant_id
        JOIN identity.users u ON u.id = s.user_id AND u.tenant_id = s.tenant_id
    WHERE t.status = 'active' AND t.deleted_at IS NULL AND u.is_active AND u.deleted_at IS NULL
    ORDER BY s.expires_at DESC LIMIT 1
$$;
COMMENT ON FUNCTION identity.find_session IS 'A session by its token''s hash, while it opens.';

-- ---------------------------------------------------------------------------------------------------- row security and grants

-- An operator whose transaction is bound to a tenant changes that one, and adds none.
CREATE POLICY operator_adds ON identity.tenants FOR INSERT TO greenroom_operator
    WITH CHECK ((SELECT identity.current_tenant_id()) IS NULL);
CREATE POLICY operator_changes ON identity.tenants FOR UPDATE TO greenroom_operator
    USING ((SELECT identity.current_tenant_id()) IS NULL OR id = (SELECT identity.current_tenant_id()));
GRANT INSERT (name, slug, status, plan_type, max_agents, max_daily_requests, max_monthly_tokens, contact_email, contact_name,
    settings, metadata) ON identity.tenants TO greenroom_operator;
GRANT UPDATE (name, slug, status, plan_type, max_agents, max_daily_requests, max_monthly_tokens, contact_email, contact_name,
    settings, metadata) ON identity.tenants TO greenroom_operator;
REVOKE EXECUTE ON FUNCTION ops.tenant_tables, ops.tenant_leftover, ops.tenant_hold, ops.erase_page, ops.empty_tenant, ops.remove_tenant,
    identity.check_life, identity.erase_deleted, identity.find_api_key, identity.find_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.tenant_tables, ops.tenant_leftover, ops.tenant_hold, ops.erase_page, ops.empty_tenant, ops.remove_tenant
    TO greenroom_system;
GRANT EXECUTE ON FUNCTION ops.tenant_hold TO greenroom_operator;
GRANT EXECUTE ON FUNCTION identity.find_api_key, identity.find_session TO greenroom_worker, greenroom_system, greenroom_operator;
