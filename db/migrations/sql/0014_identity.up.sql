-- The data model, first part: who there is. And what every later part of it stands on: how a table is bound to its tenants, how
-- a table is parted by months.

-- ---------------------------------------------------------------------------------------------------- helpers

-- The product's user that this transaction acts for, or NULL; after a transaction with SET LOCAL the setting is ''.
CREATE FUNCTION identity.current_user_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT NULLIF(current_setting('app.current_user_id', true), '')::uuid
$$;

-- Bind tables to their tenants: every role that may look at rows at all passes, and is bound to its transaction's tenant by a
-- RESTRICTIVE policy; the owner (migrations, definer functions) passes under FORCE, the system role works across tenants.
-- Relay and producers have no grant on any of them.
CREATE FUNCTION ops.bind_to_tenant(VARIADIC relations regclass[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
    bound CONSTANT text := 'tenant_id = (SELECT identity.current_tenant_id())';
BEGIN
    FOREACH relation IN ARRAY relations LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system '
            'USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader '
            'USING (%s) WITH CHECK (%s)', relation, bound, bound);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO greenroom_worker, greenroom_system, greenroom_operator', relation);
        EXECUTE format('GRANT SELECT ON %s TO greenroom_reader', relation);
    END LOOP;
END
$$;

-- Bind a table's rows to the user that a transaction acts for, on top of its tenant (002, 003); one that acts for nobody sees
-- all of its tenant's. `owned` is SQL over the table's columns.
CREATE FUNCTION ops.bind_to_user(relation regclass, owned text DEFAULT 'user_id = (SELECT identity.current_user_id())')
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    bound CONSTANT text := format('(SELECT identity.current_user_id()) IS NULL OR %s', owned);
BEGIN
    EXECUTE format('CREATE POLICY user_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader '
        'USING (%s) WITH CHECK (%s)', relation, bound, bound);
END
$$;

-- Create the partition of `parent` for the month of `moment` (UTC), if it is missing. Created apart and attached: PARTITION OF
-- would lock the parent; the CHECK spares ATTACH its scan. Row security is the parent's for who asks the parent; nobody has a
-- grant on a leaf. The owner passes there too: DETACH looks as the owner whether rows of other tables refer to the leaf's.
CREATE FUNCTION ops.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first CONSTANT timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next CONSTANT timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = parent);
    leaf CONSTANT text := (SELECT relname FROM pg_class WHERE oid = parent) || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
    key CONSTANT text := substring(pg_get_partkeydef(parent) FROM '\((.*)\)');
BEGIN
    IF to_regclass(format('%I.%I', schema, leaf)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', schema, leaf, parent);
    EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT within_month CHECK (%I IS NOT NULL AND %I >= %L AND %I < %L)',
        schema, leaf, key, key, first, key, next);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('CREATE POLICY owner_passes ON %I.%I TO CURRENT_USER USING (true) WITH CHECK (true)', schema, leaf);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, schema, leaf, first, next);
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT within_month', schema, leaf);
    RETURN leaf;
END
$$;

-- Take care that this month and the next two have their partitions, in every table that is parted by months.
CREATE FUNCTION ops.create_months() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(ops.create_month(c.oid, now() + make_interval(months => ahead)))::integer
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid, generate_series(0, 2) AS ahead
    WHERE p.partstrat = 'r' AND c.relnamespace::regnamespace::text IN
        ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops', 'audit')
$$;
-- Keep a row's version: whoever writes it says which one was read, and a stale write is refused; it is counted up by every write,
-- also by one that does not speak of it.
CREATE FUNCTION ops.check_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version IS DISTINCT FROM OLD.version THEN
        RAISE EXCEPTION 'version % of the row was read, which is at version %', NEW.version, OLD.version USING ERRCODE = 'GR004',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, HINT = 'Read the row again and repeat the change.';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

REVOKE EXECUTE ON FUNCTION ops.bind_to_tenant, ops.bind_to_user, ops.create_month, ops.create_months FROM PUBLIC;

-- The relay takes care of all of them with the queue's.
CREATE OR REPLACE FUNCTION queue.create_months() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(queue.create_month(parent::regclass, now() + make_interval(months => ahead)))::integer + ops.create_months()
    FROM unnest(ARRAY['queue.tasks_history', 'queue.attempts']) AS parent, generate_series(0, 2) AS ahead
$$;

-- ---------------------------------------------------------------------------------------------------- identity

COMMENT ON TABLE identity.tenants IS 'An organisation whose rows nobody else sees; a product with one alone uses the default tenant.';

CREATE TABLE identity.users (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    email text NOT NULL,
    username text,
    name text,
    first_name text,
    last_name text,
    image text,
    password_hash text,
    role text DEFAULT 'user' NOT NULL,
    permissions jsonb DEFAULT '[]' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED NOT NULL,
    auth_provider text DEFAULT 'local' NOT NULL,
    auth_external_id text,
    preferences jsonb DEFAULT '{}' NOT NULL,
    email_verified_at timestamptz,
    last_login_at timestamptz,
    last_active_at timestamptz DEFAULT now() NOT NULL,
    last_used_at timestamptz,
    version integer DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT users_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT users_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT users_email_check CHECK (email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$' AND length(email) <= 255),
    CONSTRAINT users_username_check CHECK (length(username) BETWEEN 1 AND 100),
    CONSTRAINT users_name_check CHECK (length(name) <= 255),
    CONSTRAINT users_first_name_check CHECK (length(first_name) <= 255),
    CONSTRAINT users_last_name_check CHECK (length(last_name) <= 255),
    CONSTRAINT users_password_hash_check CHECK (length(password_hash) <= 255),
    CONSTRAINT users_role_check CHECK (role IN ('admin', 'user', 'viewer')),
    CONSTRAINT users_permissions_check CHECK (jsonb_typeof(permissions) = 'array'),
    CONSTRAINT users_status_check CHECK (status IN ('active', 'inactive', 'suspended')),
    CONSTRAINT users_auth_provider_check CHECK (length(auth_provider) BETWEEN 1 AND 50),
    CONSTRAINT users_auth_external_id_check CHECK (length(auth_external_id) <= 255)
);
CREATE INDEX users_active_idx ON identity.users (is_active, last_active_at);
CREATE INDEX users_auth_external_idx ON identity.users (auth_provider, auth_external_id);
CREATE UNIQUE INDEX users_email_key ON identity.users (tenant_id, email) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_external_id_key ON identity.users (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX users_role_idx ON identity.users (tenant_id, role);
CREATE INDEX users_status_idx ON identity.users (tenant_id, status);
CREATE UNIQUE INDEX users_username_key ON identity.users (tenant_id, username) WHERE username IS NOT NULL AND deleted_at IS NULL;
COMMENT ON TABLE identity.users IS 'A product''s user: owns personas, talks to agents, holds keys. Not an operator of this installation.';
COMMENT ON COLUMN identity.users.external_id IS 'The product''s own key';
COMMENT ON COLUMN identity.users.email IS 'Unique in the tenant among users that are not deleted';
COMMENT ON COLUMN identity.users.name IS 'The full name as the product shows it';
COMMENT ON COLUMN identity.users.image IS 'Address of a picture';
COMMENT ON COLUMN identity.users.password_hash IS 'Of a memory-hard function; none for who logs in elsewhere';
COMMENT ON COLUMN identity.users.is_active IS 'What status says';
COMMENT ON COLUMN identity.users.last_used_at IS 'Last access by a key';
COMMENT ON COLUMN identity.users.version IS 'Counts changes; whoever writes it writes the one that was read';
CREATE TRIGGER check_version BEFORE UPDATE ON identity.users FOR EACH ROW EXECUTE FUNCTION ops.check_version();
CREATE TRIGGER touch BEFORE UPDATE ON identity.users FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.sessions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    token_hash text NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT sessions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT sessions_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT sessions_token_hash_check CHECK (length(token_hash) BETWEEN 1 AND 255)
);
CREATE INDEX sessions_tenant_id_idx ON identity.sessions (tenant_id);
CREATE INDEX sessions_expires_at_idx ON identity.sessions (expires_at);
CREATE INDEX sessions_token_hash_idx ON identity.sessions (token_hash);
CREATE INDEX sessions_user_id_idx ON identity.sessions (user_id);
COMMENT ON TABLE identity.sessions IS 'A token that a product gave out, by its hash: to look up, to take back, to clean up once it has expired.';

CREATE TABLE identity.user_sessions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_type text DEFAULT 'interactive' NOT NULL,
    session_context jsonb DEFAULT '{}' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    version integer DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT user_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT user_sessions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT user_sessions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT user_sessions_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT user_sessions_session_type_check CHECK (length(session_type) BETWEEN 1 AND 100),
    CONSTRAINT user_sessions_status_check CHECK (status IN ('active', 'ended', 'expired')),
    CONSTRAINT user_sessions_ended_at_check CHECK (ended_at >= started_at)
);
CREATE INDEX user_sessions_ended_at_idx ON identity.user_sessions (ended_at);
CREATE INDEX user_sessions_status_idx ON identity.user_sessions (tenant_id, status);
CREATE INDEX user_sessions_user_id_idx ON identity.user_sessions (user_id);
COMMENT ON TABLE identity.user_sessions IS 'A user''s time with the product, from sign-in to its end.';
COMMENT ON COLUMN identity.user_sessions.version IS 'Counts changes; whoever writes it writes the one that was read';
CREATE TRIGGER check_version BEFORE UPDATE ON identity.user_sessions FOR EACH ROW EXECUTE FUNCTION ops.check_version();
CREATE TRIGGER touch BEFORE UPDATE ON identity.user_sessions FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.session_activities (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_session_id uuid NOT NULL,
    activity_type text NOT NULL,
    details jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT session_activities_pkey PRIMARY KEY (id),
    CONSTRAINT session_activities_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT session_activities_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT session_activities_user_session_id_tenant_id_fkey FOREIGN KEY (user_session_id, tenant_id) REFERENCES identity.user_sessions (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT session_activities_activity_type_check CHECK (length(activity_type) BETWEEN 1 AND 100)
);
CREATE INDEX session_activities_tenant_id_created_at_idx ON identity.session_activities (tenant_id, created_at);
CREATE INDEX session_activities_user_session_id_idx ON identity.session_activities (user_session_id);
COMMENT ON TABLE identity.session_activities IS 'One thing that a user did in a session.';

CREATE TABLE identity.api_keys (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid,
    name text NOT NULL,
    key_hash text NOT NULL,
    key_prefix text NOT NULL,
    scopes jsonb DEFAULT '[]' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash),
    CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT api_keys_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT api_keys_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT api_keys_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT api_keys_key_hash_check CHECK (length(key_hash) BETWEEN 32 AND 255),
    CONSTRAINT api_keys_key_prefix_check CHECK (length(key_prefix) BETWEEN 4 AND 20),
    CONSTRAINT api_keys_scopes_check CHECK (jsonb_typeof(scopes) = 'array'),
    CONSTRAINT api_keys_status_check CHECK (status IN ('active', 'revoked', 'expired')),
    CONSTRAINT api_keys_revoked_at_check CHECK ((revoked_at IS NOT NULL) = (status = 'revoked'))
);
CREATE INDEX api_keys_status_idx ON identity.api_keys (tenant_id, status);
CREATE INDEX api_keys_user_id_idx ON identity.api_keys (user_id);
COMMENT ON TABLE identity.api_keys IS 'A key by which programs come in: kept as a keyed hash, shown by its prefix.';
COMMENT ON COLUMN identity.api_keys.key_prefix IS 'What may be shown of the key';
CREATE TRIGGER touch BEFORE UPDATE ON identity.api_keys FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.operators (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    email text NOT NULL,
    name text,
    password_hash text NOT NULL,
    role text DEFAULT 'viewer' NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    last_login_at timestamptz,
    last_login_ip inet,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT operators_pkey PRIMARY KEY (id),
    CONSTRAINT operators_email_key UNIQUE (email),
    CONSTRAINT operators_email_check CHECK (email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$' AND length(email) <= 255),
    CONSTRAINT operators_name_check CHECK (length(name) <= 255),
    CONSTRAINT operators_password_hash_check CHECK (length(password_hash) BETWEEN 1 AND 255),
    CONSTRAINT operators_role_check CHECK (role IN ('viewer', 'operator', 'admin'))
);
COMMENT ON TABLE identity.operators IS 'Who may use the console of this installation, across tenants; no product''s own admin is one.';
CREATE TRIGGER touch BEFORE UPDATE ON identity.operators FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.regions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    endpoint text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT regions_pkey PRIMARY KEY (id),
    CONSTRAINT regions_code_key UNIQUE (code),
    CONSTRAINT regions_code_check CHECK (code ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(code) <= 100),
    CONSTRAINT regions_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT regions_status_check CHECK (status IN ('active', 'draining', 'disabled')),
    CONSTRAINT regions_endpoint_check CHECK (length(endpoint) <= 2000)
);
COMMENT ON TABLE identity.regions IS 'A place where tenants'' data may stand.';
CREATE TRIGGER touch BEFORE UPDATE ON identity.regions FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.tenant_regions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    region_id uuid NOT NULL,
    is_primary boolean DEFAULT false NOT NULL,
    residency text DEFAULT 'preferred' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tenant_regions_pkey PRIMARY KEY (id),
    CONSTRAINT tenant_regions_tenant_id_region_id_key UNIQUE (tenant_id, region_id),
    CONSTRAINT tenant_regions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT tenant_regions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT tenant_regions_region_id_fkey FOREIGN KEY (region_id) REFERENCES identity.regions (id) ON DELETE RESTRICT,
    CONSTRAINT tenant_regions_residency_check CHECK (residency IN ('required', 'preferred')),
    CONSTRAINT tenant_regions_status_check CHECK (status IN ('provisioning', 'active', 'draining', 'removed'))
);
CREATE UNIQUE INDEX tenant_regions_primary_key ON identity.tenant_regions (tenant_id) WHERE is_primary;
CREATE INDEX tenant_regions_region_id_idx ON identity.tenant_regions (region_id);
COMMENT ON TABLE identity.tenant_regions IS 'Where a tenant''s data stands: in one primary region, and in those that follow it.';
CREATE TRIGGER touch BEFORE UPDATE ON identity.tenant_regions FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.replication_status (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    source_region_id uuid NOT NULL,
    target_region_id uuid NOT NULL,
    status text DEFAULT 'syncing' NOT NULL,
    lag_seconds integer,
    last_synced_at timestamptz,
    error_message text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT replication_status_pkey PRIMARY KEY (id),
    CONSTRAINT replication_status_tenant_id_source_region_id_target_re_84d9 UNIQUE (tenant_id, source_region_id, target_region_id),
    CONSTRAINT replication_status_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT replication_status_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT replication_status_source_region_id_fkey FOREIGN KEY (source_region_id) REFERENCES identity.regions (id) ON DELETE RESTRICT,
    CONSTRAINT replication_status_target_region_id_fkey FOREIGN KEY (target_region_id) REFERENCES identity.regions (id) ON DELETE RESTRICT,
    CONSTRAINT replication_status_status_check CHECK (status IN ('syncing', 'current', 'lagging', 'failed')),
    CONSTRAINT replication_status_lag_seconds_check CHECK (lag_seconds >= 0)
);
CREATE INDEX replication_status_source_region_id_idx ON identity.replication_status (source_region_id);
CREATE INDEX replication_status_target_region_id_idx ON identity.replication_status (target_region_id);
COMMENT ON TABLE identity.replication_status IS 'How far a tenant''s data has come from one region to another.';
CREATE TRIGGER touch BEFORE UPDATE ON identity.replication_status FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE identity.cross_region_sync_logs (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    source_region_id uuid NOT NULL,
    target_region_id uuid NOT NULL,
    table_name text NOT NULL,
    row_count bigint DEFAULT 0 NOT NULL,
    byte_count bigint DEFAULT 0 NOT NULL,
    status text DEFAULT 'running' NOT NULL,
    error_message text,
    started_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT cross_region_sync_logs_pkey PRIMARY KEY (id),
    CONSTRAINT cross_region_sync_logs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT cross_region_sync_logs_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT cross_region_sync_logs_source_region_id_fkey FOREIGN KEY (source_region_id) REFERENCES identity.regions (id) ON DELETE RESTRICT,
    CONSTRAINT cross_region_sync_logs_target_region_id_fkey FOREIGN KEY (target_region_id) REFERENCES identity.regions (id) ON DELETE RESTRICT,
    CONSTRAINT cross_region_sync_logs_table_name_check CHECK (length(table_name) BETWEEN 1 AND 100),
    CONSTRAINT cross_region_sync_logs_row_count_check CHECK (row_count >= 0),
    CONSTRAINT cross_region_sync_logs_byte_count_check CHECK (byte_count >= 0),
    CONSTRAINT cross_region_sync_logs_status_check CHECK (status IN ('running', 'success', 'failure')),
    CONSTRAINT cross_region_sync_logs_completed_at_check CHECK (completed_at >= started_at)
);
CREATE INDEX cross_region_sync_logs_source_region_id_idx ON identity.cross_region_sync_logs (source_region_id);
CREATE INDEX cross_region_sync_logs_target_region_id_idx ON identity.cross_region_sync_logs (target_region_id);
CREATE INDEX cross_region_sync_logs_tenant_id_started_at_idx ON identity.cross_region_sync_logs (tenant_id, started_at);
COMMENT ON TABLE identity.cross_region_sync_logs IS 'One run that carried a tenant''s rows from one region to another.';
-- ---------------------------------------------------------------------------------------------------- row security and grants

SELECT ops.bind_to_tenant('identity.users', 'identity.sessions', 'identity.user_sessions', 'identity.session_activities',
    'identity.api_keys', 'identity.tenant_regions', 'identity.replication_status', 'identity.cross_region_sync_logs');
SELECT ops.bind_to_user('identity.users', 'id = (SELECT identity.current_user_id())');
SELECT ops.bind_to_user('identity.user_sessions');
SELECT ops.bind_to_user('identity.session_activities', 'EXISTS (SELECT FROM identity.user_sessions s '
    'WHERE s.id = session_activities.user_session_id AND s.user_id = (SELECT identity.current_user_id()))');
-- Nobody of a tenant's: the console's own roles.
GRANT SELECT, INSERT, UPDATE, DELETE ON identity.operators TO greenroom_operator;
GRANT SELECT ON identity.regions TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON identity.regions TO greenroom_operator;
-- Who looks sees no hashes.
REVOKE SELECT ON identity.users, identity.sessions, identity.api_keys FROM greenroom_reader;
GRANT SELECT (id, tenant_id, external_id, email, username, name, first_name, last_name, image, role, permissions, status,
    is_active, auth_provider, auth_external_id, preferences, email_verified_at, last_login_at, last_active_at, last_used_at,
    version, created_at, updated_at, deleted_at) ON identity.users TO greenroom_reader;
GRANT SELECT (id, tenant_id, user_id, expires_at, created_at) ON identity.sessions TO greenroom_reader;
GRANT SELECT (id, tenant_id, user_id, name, key_prefix, scopes, status, expires_at, last_used_at, revoked_at, metadata,
    created_at, updated_at) ON identity.api_keys TO greenroom_reader;
