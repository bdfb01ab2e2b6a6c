-- Schemas, functions and tables of the first release. Run by the database's owner, who need not be a superuser.
-- Statement order: helpers, tenants, queue, assistants, knowledge, audit, row security, grants.

CREATE SCHEMA ops;
CREATE SCHEMA identity;
CREATE SCHEMA queue;
CREATE SCHEMA assistants;
CREATE SCHEMA knowledge;
CREATE SCHEMA audit;

-- ---------------------------------------------------------------------------------------------------- helpers

-- UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. Built in only from
-- PostgreSQL 18 on, so this one serves 16 and 17 too.
CREATE FUNCTION ops.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
                52, 1),
            53, 1),
        'hex')::uuid
$$;

CREATE FUNCTION ops.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

-- ---------------------------------------------------------------------------------------------------- identity

-- The tenant that this transaction is bound to, or NULL. After a transaction with SET LOCAL the setting is '' and
-- not NULL, hence the NULLIF.
CREATE FUNCTION identity.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT NULLIF(current_setting('app.current_tenant_id', true), '')::uuid
$$;

-- The tenant of a product that has only one.
CREATE FUNCTION identity.default_tenant_id() RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '00000000-0000-7000-8000-000000000001'::uuid
$$;

CREATE TABLE identity.tenants (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) <= 100),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    plan_type text NOT NULL DEFAULT 'free' CHECK (plan_type IN ('free', 'starter', 'pro', 'enterprise')),
    max_agents integer CHECK (max_agents >= 0),
    max_daily_requests integer CHECK (max_daily_requests >= 0),
    max_monthly_tokens bigint CHECK (max_monthly_tokens >= 0),
    contact_email text CHECK (length(contact_email) <= 255),
    contact_name text CHECK (length(contact_name) <= 255),
    settings jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX tenants_slug_key ON identity.tenants (slug) WHERE deleted_at IS NULL;
CREATE INDEX tenants_status_idx ON identity.tenants (status);
CREATE INDEX tenants_deleted_at_idx ON identity.tenants (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE TRIGGER touch BEFORE UPDATE ON identity.tenants FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

INSERT INTO identity.tenants (id, name, slug) VALUES (identity.default_tenant_id(), 'Default', 'default');

-- ---------------------------------------------------------------------------------------------------- queue

-- What each task type defaults to; published by `db migrate` and refreshed by workers, read by every INSERT.
CREATE TABLE queue.task_types (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$' AND length(name) <= 100),
    queue text NOT NULL CHECK (length(queue) BETWEEN 1 AND 100),
    scope text NOT NULL CHECK (scope IN ('tenant', 'system')),
    priority smallint NOT NULL CHECK (priority BETWEEN -100 AND 100),
    max_attempts smallint NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
    batch_size smallint NOT NULL CHECK (batch_size BETWEEN 1 AND 1000),
    time_limit interval NOT NULL CHECK (time_limit > interval '0'),
    payload_version smallint NOT NULL CHECK (payload_version >= 1),
    payload_schema jsonb NOT NULL,
    secret_fields text[] NOT NULL DEFAULT '{}',
    aliases text[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE queue.queues (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    paused_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER touch BEFORE UPDATE ON queue.queues FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- Who works here. `id` is a boot id: new for each start of a process, so that a host name never proves liveness.
CREATE TABLE queue.processes (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('relay', 'worker', 'scheduler', 'console')),
    host text NOT NULL,
    pid integer NOT NULL,
    queues text[] NOT NULL DEFAULT '{}',
    task_types text[] NOT NULL DEFAULT '{}',
    slots integer NOT NULL DEFAULT 0 CHECK (slots >= 0),
    is_sleeping boolean NOT NULL DEFAULT false,
    hears_notify boolean,
    loop_ages jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at timestamptz NOT NULL DEFAULT now()
);

-- Every task in every status. Live rows stand in `tasks_live`, ended ones in `tasks_history`, by months; the engine
-- addresses the leaves and moves rows itself (docs/decisions/0001-queue-layout.md). docs/state-machine.md draws
-- what the CHECKs say.
CREATE TABLE queue.outbox_tasks (
    id uuid NOT NULL DEFAULT ops.uuid_v7(),
    task_type text NOT NULL CHECK (length(task_type) BETWEEN 1 AND 100),
    payload jsonb NOT NULL CHECK (pg_column_size(payload) <= 1048576),
    status text NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error text CHECK (length(last_error) <= 20000),
    run_after timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- what it is and whose
    tenant_id uuid,
    owner_kind text CHECK (length(owner_kind) <= 50),
    owner_id uuid,
    payload_version smallint,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (pg_column_size(metadata) <= 65536),
    trace_context text CHECK (length(trace_context) <= 512),
    -- when and in what order
    queue text NOT NULL DEFAULT 'default' CHECK (length(queue) BETWEEN 1 AND 100),
    priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    rank bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint,
    is_due boolean NOT NULL DEFAULT true,
    hold_reason text CHECK (length(hold_reason) <= 2000),
    unique_key text CHECK (length(unique_key) BETWEEN 1 AND 200),
    max_attempts smallint NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
    snoozes integer NOT NULL DEFAULT 0 CHECK (snoozes >= 0),
    -- who holds it
    claim_number integer NOT NULL DEFAULT 0,
    claimed_until timestamptz,
    lease_until timestamptz,
    deadline_at timestamptz,
    worker_id uuid,
    -- what came of it
    started_at timestamptz,
    failed_at timestamptz,
    progress real CHECK (progress BETWEEN 0 AND 1),
    progress_message text CHECK (length(progress_message) <= 1000),
    result jsonb CHECK (pg_column_size(result) <= 1048576),
    CONSTRAINT pending_is_unleased CHECK
        (status <> 'pending' OR (lease_until IS NULL AND deadline_at IS NULL AND worker_id IS NULL AND completed_at IS NULL)),
    CONSTRAINT in_progress_is_leased CHECK
        (status <> 'in_progress' OR (lease_until IS NOT NULL AND deadline_at IS NOT NULL AND worker_id IS NOT NULL
            AND started_at IS NOT NULL AND attempts > 0 AND claimed_until IS NULL AND completed_at IS NULL)),
    CONSTRAINT ended_is_released CHECK
        (status NOT IN ('done', 'failed', 'cancelled') OR (completed_at IS NOT NULL AND lease_until IS NULL
            AND claimed_until IS NULL AND hold_reason IS NULL)),
    CONSTRAINT done_has_run CHECK (status <> 'done' OR (started_at IS NOT NULL AND failed_at IS NULL)),
    CONSTRAINT failed_says_why CHECK (status <> 'failed' OR (failed_at IS NOT NULL AND last_error IS NOT NULL)),
    CONSTRAINT held_is_unclaimed CHECK (hold_reason IS NULL OR (status = 'pending' AND claimed_until IS NULL)),
    CONSTRAINT owner_is_whole CHECK ((owner_kind IS NULL) = (owner_id IS NULL))
) PARTITION BY LIST (status);

CREATE TABLE queue.tasks_live PARTITION OF queue.outbox_tasks FOR VALUES IN ('pending', 'in_progress')
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
          autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.1);
CREATE TABLE queue.tasks_history PARTITION OF queue.outbox_tasks FOR VALUES IN ('done', 'failed', 'cancelled')
    PARTITION BY RANGE (completed_at);

CREATE UNIQUE INDEX tasks_live_id_key ON queue.tasks_live (id);
CREATE UNIQUE INDEX tasks_live_unique_key ON queue.tasks_live (tenant_id, unique_key) NULLS NOT DISTINCT
    WHERE unique_key IS NOT NULL;
-- The claim reads this one: it holds nothing but what may be claimed now.
CREATE INDEX tasks_live_claim_idx ON queue.tasks_live (queue, rank)
    WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL;
-- Deferred tasks wait here, outside of the claim's index, until `promote` finds them due.
CREATE INDEX tasks_live_deferred_idx ON queue.tasks_live (run_after) WHERE NOT is_due;
-- The tasks that occupy slots. Holds deadline_at, which a renewal leaves alone, and not lease_until: so renewals are HOT.
CREATE INDEX tasks_live_occupied_idx ON queue.tasks_live (COALESCE(deadline_at, claimed_until))
    WHERE deadline_at IS NOT NULL OR claimed_until IS NOT NULL;
CREATE INDEX tasks_live_held_idx ON queue.tasks_live (created_at) WHERE hold_reason IS NOT NULL;
CREATE INDEX tasks_live_owner_idx ON queue.tasks_live (owner_id) WHERE owner_id IS NOT NULL;

CREATE INDEX tasks_history_id_idx ON queue.tasks_history (id);
CREATE INDEX tasks_history_completed_at_idx ON queue.tasks_history (completed_at);
CREATE INDEX tasks_history_failed_idx ON queue.tasks_history (completed_at) WHERE status = 'failed';
CREATE INDEX tasks_history_owner_idx ON queue.tasks_history (owner_id) WHERE owner_id IS NOT NULL;

-- The attempts that did not end their task as done: errors, snoozes, lost leases. The last attempt of a done task
-- stands on its row.
CREATE TABLE queue.attempts (
    task_id uuid NOT NULL,
    tenant_id uuid,
    claim_number integer NOT NULL,
    number integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('retry', 'snooze', 'fail', 'cancel', 'lost', 'handed_back')),
    error text CHECK (length(error) <= 20000),
    traceback text CHECK (length(traceback) <= 50000),
    worker_id uuid,
    started_at timestamptz,
    ended_at timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (ended_at);
CREATE INDEX attempts_task_id_idx ON queue.attempts (task_id);

-- Create the partition of `parent` for the month of `moment`, if it is missing. Created apart and attached: PARTITION
-- OF would lock the parent against claims; the CHECK spares ATTACH its scan.
CREATE FUNCTION queue.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    parent_name text := (SELECT relname FROM pg_class WHERE oid = parent);
    key text := pg_get_partkeydef(parent);
    leaf text := parent_name || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('queue.' || quote_ident(leaf)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    key := substring(key FROM '\((.*)\)');
    EXECUTE format('CREATE TABLE queue.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf, parent);
    EXECUTE format('ALTER TABLE queue.%I ADD CONSTRAINT within_month CHECK (%I >= %L AND %I < %L)',
                   leaf, key, first, key, next);
    IF parent_name = 'tasks_history' THEN
        EXECUTE format($c$ALTER TABLE queue.%I ADD CONSTRAINT is_ended
            CHECK (status IS NOT NULL AND status = ANY (ARRAY['done', 'failed', 'cancelled']) AND completed_at IS NOT NULL)$c$, leaf);
    END IF;
    EXECUTE format('ALTER TABLE queue.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE queue.%I FORCE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION queue.%I FOR VALUES FROM (%L) TO (%L)', parent, leaf, first, next);
    RETURN leaf;
END
$$;

-- Take care that this month and the next two have their partitions; cheap when they do.
CREATE FUNCTION queue.create_months() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(queue.create_month(parent::regclass, now() + make_interval(months => ahead)))::integer
    FROM unnest(ARRAY['queue.tasks_history', 'queue.attempts']) AS parent, generate_series(0, 2) AS ahead
$$;
SELECT queue.create_months();

-- The rank that the claim orders by: microseconds of the due time, a minute earlier for each step of priority, so
-- that a task which waits overtakes younger ones of higher priority in the end.
CREATE FUNCTION queue.rank_of(run_after timestamptz, priority integer) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (extract(epoch FROM run_after) * 1000000)::bigint - priority * 60000000::bigint
$$;

-- Why `payload` does not fit the JSON schema `schema`, or NULL. Knows what pydantic writes for the types that payloads
-- use: type, properties, required, additionalProperties, enum, const, format uuid, lengths, bounds, items, anyOf, $ref.
-- The worker validates once more, and with everything.
CREATE FUNCTION queue.schema_error(schema jsonb, value jsonb, root jsonb, path text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    wanted text := schema->>'type';
    found text := jsonb_typeof(value);
    field text;
    item jsonb;
    problem text;
    position integer := 0;
BEGIN
    IF schema ? '$ref' THEN
        RETURN queue.schema_error(root #> string_to_array(substr(schema->>'$ref', 3), '/'), value, root, path);
    END IF;
    IF schema ? 'anyOf' THEN
        FOR item IN SELECT * FROM jsonb_array_elements(schema->'anyOf') LOOP
            problem := queue.schema_error(item, value, root, path);
            EXIT WHEN problem IS NULL;
        END LOOP;
        RETURN problem;
    END IF;
    IF schema ? 'const' AND value <> schema->'const' OR schema ? 'enum' AND NOT schema->'enum' @> value THEN
        RETURN format('%s is not one of the values that are allowed', path);
    END IF;
    IF wanted = 'integer' AND (found <> 'number' OR value::text::numeric % 1 <> 0)
        OR wanted IS NOT NULL AND wanted NOT IN ('integer', found) THEN
        RETURN format('%s must be %s, is %s', path, wanted, found);
    END IF;
    IF found = 'object' THEN
        FOR field IN SELECT jsonb_array_elements_text(schema->'required') LOOP
            IF NOT value ? field THEN
                RETURN format('%s is missing', ltrim(path || '.' || field, '.'));
            END IF;
        END LOOP;
        FOR field, item IN SELECT * FROM jsonb_each(value) LOOP
            IF schema->'properties' ? field THEN
                problem := queue.schema_error(schema->'properties'->field, item, root, ltrim(path || '.' || field, '.'));
            ELSIF schema->'additionalProperties' = 'false' THEN
                problem := format('%s is not a field of this type', ltrim(path || '.' || field, '.'));
            ELSIF jsonb_typeof(schema->'additionalProperties') = 'object' THEN
                problem := queue.schema_error(schema->'additionalProperties', item, root, ltrim(path || '.' || field, '.'));
            END IF;
            IF problem IS NOT NULL THEN RETURN problem; END IF;
        END LOOP;
    ELSIF found = 'array' AND schema ? 'items' THEN
        IF jsonb_array_length(value) > (schema->>'maxItems')::integer OR jsonb_array_length(value) < (schema->>'minItems')::integer THEN
            RETURN format('%s has a wrong number of items', path);
        END IF;
        FOR item IN SELECT * FROM jsonb_array_elements(value) LOOP
            problem := queue.schema_error(schema->'items', item, root, format('%s[%s]', path, position));
            IF problem IS NOT NULL THEN RETURN problem; END IF;
            position := position + 1;
        END LOOP;
    ELSIF found = 'string' THEN
        IF schema->>'format' = 'uuid' AND NOT pg_input_is_valid(value #>> '{}', 'uuid') THEN
            RETURN format('%s must be a UUID', path);
        ELSIF schema->>'format' = 'date-time' AND NOT pg_input_is_valid(value #>> '{}', 'timestamptz') THEN
            RETURN format('%s must be a date and time', path);
        ELSIF length(value #>> '{}') < (schema->>'minLength')::integer OR length(value #>> '{}') > (schema->>'maxLength')::integer THEN
            RETURN format('%s has a wrong length', path);
        END IF;
    ELSIF found = 'number' THEN
        IF value::text::numeric < (schema->>'minimum')::numeric OR value::text::numeric > (schema->>'maximum')::numeric
            OR value::text::numeric <= (schema->>'exclusiveMinimum')::numeric OR value::text::numeric >= (schema->>'exclusiveMaximum')::numeric THEN
            RETURN format('%s is out of range', path);
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- The published type of that name or alias.
CREATE FUNCTION queue.task_type(wanted text) RETURNS queue.task_types LANGUAGE sql STABLE AS $$
    SELECT t FROM queue.task_types t WHERE t.name = wanted OR wanted = ANY (t.aliases) ORDER BY t.name = wanted DESC LIMIT 1
$$;

-- Why the tasks of a tenant wait, or NULL.
CREATE FUNCTION queue.tenant_hold_reason(tenant uuid) RETURNS text LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state text := (SELECT status FROM identity.tenants WHERE id = tenant);
BEGIN
    RETURN CASE WHEN state = 'active' OR tenant IS NULL THEN NULL
                WHEN state IS NULL THEN format('unknown tenant %s', tenant)
                ELSE 'tenant is ' || state END;
END
$$;

-- Why a row that we did not check ourselves must be held, or NULL.
CREATE FUNCTION queue.hold_reason_of(task_type text, payload jsonb, tenant_id uuid, known queue.task_types) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
BEGIN
    IF known.name IS NULL THEN
        RETURN format('unknown task type %s: publish it with `greenroom db migrate`, then `greenroom tasks release`', task_type);
    END IF;
    IF jsonb_typeof(payload) <> 'object' THEN
        RETURN 'invalid payload: it must be a JSON object';
    END IF;
    problem := queue.schema_error(known.payload_schema, payload, known.payload_schema, '');
    IF problem IS NOT NULL THEN
        RETURN left('invalid payload: ' || problem, 2000);
    END IF;
    IF known.scope = 'tenant' THEN
        RETURN queue.tenant_hold_reason(tenant_id);
    END IF;
    RETURN NULL;
END
$$;

-- A bare INSERT says type and payload and nothing of ours: fill in what the type defaults to, hold what cannot run.
-- Rows of our own `enqueue` carry payload_version, come checked, and do not fire this.
CREATE FUNCTION queue.complete_foreign_task() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known queue.task_types := queue.task_type(NEW.task_type);
BEGIN
    NEW.run_after := COALESCE(NEW.run_after, now());
    IF known.name IS NOT NULL THEN
        NEW.task_type := known.name;
        IF NEW.queue = 'default' THEN NEW.queue := known.queue; END IF;
        IF NEW.priority = 0 THEN NEW.priority := known.priority; END IF;
        IF NEW.max_attempts = 5 THEN NEW.max_attempts := known.max_attempts; END IF;
    END IF;
    IF known.scope = 'system' THEN
        NEW.tenant_id := NULL;
    ELSE
        NEW.tenant_id := COALESCE(NEW.tenant_id, identity.current_tenant_id(), identity.default_tenant_id());
    END IF;
    NEW.rank := queue.rank_of(NEW.run_after, NEW.priority);
    NEW.is_due := NEW.run_after <= now();
    NEW.hold_reason := COALESCE(NEW.hold_reason, queue.hold_reason_of(NEW.task_type, NEW.payload, NEW.tenant_id, known));
    IF NEW.hold_reason IS NULL THEN
        NEW.payload_version := known.payload_version; -- says that it was checked; a held one is checked at its release
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER complete_foreign BEFORE INSERT ON queue.tasks_live FOR EACH ROW WHEN (NEW.payload_version IS NULL)
    EXECUTE FUNCTION queue.complete_foreign_task();

-- Ring only when a relay sleeps: NOTIFY takes a lock of the whole database at commit and would serialise producers.
-- A ring that is missed costs a poll's pause and nothing else.
CREATE FUNCTION queue.ring() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', '');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER ring AFTER INSERT ON queue.outbox_tasks FOR EACH STATEMENT EXECUTE FUNCTION queue.ring();

-- A tenant that is suspended has its waiting tasks held; one that is active again has them released.
CREATE FUNCTION queue.follow_tenant() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status = 'active' THEN
        -- A foreign row was checked before its tenant was looked at: its version is that of its type.
        UPDATE queue.tasks_live SET hold_reason = NULL, updated_at = now(),
            payload_version = COALESCE(payload_version, (queue.task_type(task_type)).payload_version)
        WHERE tenant_id = NEW.id AND hold_reason = 'tenant is ' || OLD.status;
    ELSE
        UPDATE queue.tasks_live SET hold_reason = 'tenant is ' || NEW.status, updated_at = now()
        WHERE tenant_id = NEW.id AND status = 'pending' AND claimed_until IS NULL
            AND (hold_reason IS NULL OR hold_reason = 'tenant is ' || OLD.status);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tasks_follow AFTER UPDATE OF status ON identity.tenants FOR EACH ROW
    WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION queue.follow_tenant();

-- Enqueue tasks of one type. `options`: queue, priority, run_after, unique_key, max_attempts, tenant_id, owner_kind,
-- owner_id, metadata, trace_context; they hold for all. Returns the ids in the order of the payloads; with a unique_key the
-- id of the live task that has it already. Raises GR001 for an unknown type, GR002 for a payload and GR003 for an option
-- that cannot run. `payload_version` says that the caller validated the payloads as that version itself.
CREATE FUNCTION queue.enqueue_many(task_type text, payloads jsonb[], options jsonb DEFAULT '{}', payload_version smallint DEFAULT NULL)
    RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known queue.task_types := queue.task_type(enqueue_many.task_type);
    is_producer boolean := pg_has_role(session_user, 'greenroom_producer', 'USAGE')
        AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user);
    tenant uuid;
    due timestamptz;
    step smallint;
    unknown text;
    payload jsonb;
    problem text;
    hold text;
BEGIN
    IF known.name IS NULL THEN
        RAISE EXCEPTION 'unknown task type %', enqueue_many.task_type USING ERRCODE = 'GR001',
            HINT = 'Known types stand in queue.task_types; `greenroom db migrate` publishes new ones.';
    END IF;
    SELECT string_agg(key, ', ') INTO unknown FROM jsonb_object_keys(options) AS key
    WHERE key NOT IN ('queue', 'priority', 'run_after', 'unique_key', 'max_attempts', 'tenant_id', 'owner_kind', 'owner_id',
                      'metadata', 'trace_context');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown option %', unknown USING ERRCODE = 'GR003';
    END IF;
    IF options ? 'unique_key' AND cardinality(payloads) > 1 THEN
        RAISE EXCEPTION 'a unique_key names one task, not %', cardinality(payloads) USING ERRCODE = 'GR003';
    END IF;
    IF enqueue_many.payload_version IS NULL THEN
        FOREACH payload IN ARRAY payloads LOOP
            problem := CASE WHEN jsonb_typeof(payload) IS DISTINCT FROM 'object' THEN 'it must be a JSON object'
                       ELSE queue.schema_error(known.payload_schema, payload, known.payload_schema, '') END;
            IF problem IS NOT NULL THEN
                RAISE EXCEPTION 'invalid payload for %: %', known.name, problem USING ERRCODE = 'GR002';
            END IF;
        END LOOP;
    END IF;
    IF known.scope = 'tenant' THEN
        tenant := COALESCE((options->>'tenant_id')::uuid, identity.current_tenant_id(), identity.default_tenant_id());
    ELSIF options ? 'tenant_id' THEN
        RAISE EXCEPTION 'task type % works across tenants and takes no tenant_id', known.name USING ERRCODE = 'GR003';
    END IF;
    -- Runs as the owner, so it binds the caller to its tenant itself, as row security would.
    IF identity.current_tenant_id() <> tenant
        OR is_producer AND tenant IS DISTINCT FROM COALESCE(identity.current_tenant_id(), identity.default_tenant_id()) THEN
        RAISE EXCEPTION 'this transaction is not bound to the tenant of the task' USING ERRCODE = 'GR003',
            HINT = 'Set app.current_tenant_id for the transaction; tasks of scope system are not for producers.';
    END IF;
    due := COALESCE((options->>'run_after')::timestamptz, now());
    step := COALESCE((options->>'priority')::smallint, known.priority);
    hold := queue.tenant_hold_reason(tenant);
    IF hold LIKE 'unknown tenant%' THEN
        RAISE EXCEPTION '%', hold USING ERRCODE = 'GR003';
    END IF;
    LOOP
        RETURN QUERY
        WITH made AS MATERIALIZED (
            SELECT ops.uuid_v7() AS id, p.payload, p.ordinal FROM unnest(payloads) WITH ORDINALITY AS p (payload, ordinal)
        ), inserted AS (
            INSERT INTO queue.outbox_tasks (id, task_type, payload, payload_version, tenant_id, owner_kind, owner_id, metadata,
                trace_context, queue, priority, rank, run_after, is_due, unique_key, max_attempts, hold_reason)
            SELECT made.id, known.name, made.payload, COALESCE(enqueue_many.payload_version, known.payload_version), tenant, options->>'owner_kind',
                (options->>'owner_id')::uuid, COALESCE(options->'metadata', '{}'), options->>'trace_context',
                COALESCE(options->>'queue', known.queue), step, queue.rank_of(due, step), due, due <= now(),
                options->>'unique_key', COALESCE((options->>'max_attempts')::smallint, known.max_attempts), hold
            FROM made ORDER BY made.ordinal
            ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT made.id FROM made WHERE EXISTS (SELECT FROM inserted) ORDER BY made.ordinal;
        EXIT WHEN FOUND OR cardinality(payloads) = 0;
        -- Another live task has the unique key: its id is the answer. If it ended meanwhile, the key is free again.
        RETURN QUERY SELECT live.id FROM queue.tasks_live live
        WHERE live.unique_key = options->>'unique_key' AND live.tenant_id IS NOT DISTINCT FROM tenant;
        EXIT WHEN FOUND;
    END LOOP;
END
$$;

-- Enqueue one task; see queue.enqueue_many. With a unique_key whose live task another transaction has not committed yet,
-- waits for it.
CREATE FUNCTION queue.enqueue(task_type text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT id FROM queue.enqueue_many(task_type, ARRAY[payload], options) AS id LIMIT 1
$$;

-- ---------------------------------------------------------------------------------------------------- assistants

CREATE TABLE assistants.personas (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    external_id text CHECK (length(external_id) BETWEEN 1 AND 255),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description text,
    system_prompt text NOT NULL CHECK (system_prompt <> ''),
    owner_id uuid,
    default_provider text NOT NULL DEFAULT 'openai' CHECK (length(default_provider) <= 50),
    fallback_providers jsonb,
    is_active boolean NOT NULL DEFAULT true,
    container_id text CHECK (length(container_id) <= 255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, tenant_id)
);
CREATE UNIQUE INDEX personas_external_id_key ON assistants.personas (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX personas_tenant_id_name_idx ON assistants.personas (tenant_id, name);
CREATE INDEX personas_owner_id_idx ON assistants.personas (owner_id);
CREATE TRIGGER touch BEFORE UPDATE ON assistants.personas FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- knowledge

CREATE TABLE knowledge.embedding_models (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    revision text NOT NULL CHECK (length(revision) BETWEEN 1 AND 64),
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    max_tokens integer NOT NULL CHECK (max_tokens > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (name, revision, dimensions)
);

-- A space: what is embedded, by which model. Its vectors stand in a partition of their own; search reads the active one.
CREATE TABLE knowledge.spaces (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    kind text NOT NULL CHECK (kind IN ('chunks')),
    model_id uuid NOT NULL REFERENCES knowledge.embedding_models (id),
    is_active boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, model_id)
);
CREATE UNIQUE INDEX spaces_active_key ON knowledge.spaces (kind) WHERE is_active;
CREATE INDEX spaces_model_id_idx ON knowledge.spaces (model_id);

CREATE TABLE knowledge.collections (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) <= 100),
    description text,
    embedding_model text,
    chunk_size integer NOT NULL DEFAULT 256 CHECK (chunk_size BETWEEN 16 AND 8192),
    chunk_overlap integer NOT NULL DEFAULT 32 CHECK (chunk_overlap >= 0 AND chunk_overlap * 2 <= chunk_size),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    settings jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (id, tenant_id)
);
CREATE UNIQUE INDEX collections_slug_key ON knowledge.collections (tenant_id, slug) WHERE deleted_at IS NULL;
CREATE INDEX collections_status_idx ON knowledge.collections (tenant_id, status);
CREATE TRIGGER touch BEFORE UPDATE ON knowledge.collections FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

INSERT INTO knowledge.collections (tenant_id, name, slug) VALUES (identity.default_tenant_id(), 'Default', 'default');

-- `current_version` is what readers see; `next_version` is the last one that an ingest was given. `status` follows
-- from the tasks: written with their completion, and by trigger when one fails, is cancelled or replayed.
CREATE TABLE knowledge.documents (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    collection_id uuid,
    persona_id uuid,
    external_id text CHECK (length(external_id) BETWEEN 1 AND 4096),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    title text CHECK (length(title) <= 1000),
    source text CHECK (length(source) <= 255),
    source_url text,
    file_path text,
    file_size bigint CHECK (file_size >= 0),
    mime_type text CHECK (length(mime_type) <= 100),
    content_hash bytea CHECK (length(content_hash) = 32),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
    error_message text,
    current_version integer NOT NULL DEFAULT 0 CHECK (current_version >= 0),
    next_version integer NOT NULL DEFAULT 0 CHECK (next_version >= current_version),
    chunk_count integer NOT NULL DEFAULT 0 CHECK (chunk_count >= 0),
    page_count integer CHECK (page_count > 0),
    metadata jsonb NOT NULL DEFAULT '{}',
    uploaded_by uuid,
    uploaded_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    UNIQUE (id, tenant_id),
    FOREIGN KEY (collection_id, tenant_id) REFERENCES knowledge.collections (id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX documents_external_id_key ON knowledge.documents (tenant_id, collection_id, external_id) NULLS NOT DISTINCT
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX documents_collection_id_idx ON knowledge.documents (collection_id);
CREATE INDEX documents_persona_id_idx ON knowledge.documents (persona_id);
CREATE INDEX documents_status_idx ON knowledge.documents (tenant_id, status);
CREATE INDEX documents_uploaded_at_idx ON knowledge.documents (tenant_id, uploaded_at DESC);
CREATE INDEX documents_created_at_idx ON knowledge.documents (created_at);
CREATE INDEX documents_file_path_idx ON knowledge.documents (tenant_id, file_path);
CREATE TRIGGER touch BEFORE UPDATE ON knowledge.documents FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- The normalised text of a version and the blocks that it is made of; chunks' offsets count its characters.
CREATE TABLE knowledge.document_texts (
    document_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    tenant_id uuid NOT NULL,
    file_path text NOT NULL,
    text text NOT NULL,
    blocks jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (document_id, version),
    FOREIGN KEY (document_id, tenant_id) REFERENCES knowledge.documents (id, tenant_id) ON DELETE CASCADE
);

CREATE TABLE knowledge.chunks (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid NOT NULL,
    document_id uuid NOT NULL,
    collection_id uuid,
    persona_id uuid,
    version integer NOT NULL CHECK (version > 0),
    chunk_index integer NOT NULL CHECK (chunk_index >= 0),
    text text NOT NULL CHECK (text <> ''),
    text_hash bytea NOT NULL CHECK (length(text_hash) = 32),
    token_count integer CHECK (token_count > 0),
    page integer CHECK (page > 0),
    section text,
    start_offset integer NOT NULL CHECK (start_offset >= 0),
    end_offset integer NOT NULL CHECK (end_offset > start_offset),
    is_curated boolean NOT NULL DEFAULT false,
    source_chunk_ids uuid[],
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    lexemes tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', text)) STORED,
    UNIQUE (id, tenant_id),
    UNIQUE (document_id, version, chunk_index),
    FOREIGN KEY (document_id, tenant_id) REFERENCES knowledge.documents (id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (collection_id, tenant_id) REFERENCES knowledge.collections (id, tenant_id) ON DELETE CASCADE,
    FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX chunks_collection_id_idx ON knowledge.chunks (collection_id);
CREATE INDEX chunks_persona_id_idx ON knowledge.chunks (persona_id);
CREATE INDEX chunks_text_hash_idx ON knowledge.chunks (tenant_id, text_hash);
CREATE INDEX chunks_lexemes_idx ON knowledge.chunks USING gin (lexemes);

CREATE TABLE knowledge.chunk_vectors (
    space_id uuid NOT NULL REFERENCES knowledge.spaces (id),
    chunk_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    embedding vector NOT NULL CHECK (vector_norm(embedding) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, chunk_id),
    FOREIGN KEY (chunk_id, tenant_id) REFERENCES knowledge.chunks (id, tenant_id) ON DELETE CASCADE
) PARTITION BY LIST (space_id);
CREATE INDEX chunk_vectors_chunk_id_idx ON knowledge.chunk_vectors (chunk_id);

-- Make the space of that model, if it is missing, with its partition and its HNSW cosine index; the first of its kind
-- becomes the active one. pgvector refuses NaN and infinities itself; the CHECKs refuse a wrong dimension and zero.
CREATE FUNCTION knowledge.create_space(kind text, model text, revision text, dimensions integer, max_tokens integer)
    RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    model_key uuid;
    space_key uuid;
    leaf text;
    indexed text := CASE WHEN dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
BEGIN
    INSERT INTO knowledge.embedding_models AS m (name, revision, dimensions, max_tokens)
    VALUES (model, revision, dimensions, max_tokens) ON CONFLICT DO NOTHING;
    SELECT m.id INTO model_key FROM knowledge.embedding_models m
    WHERE m.name = model AND m.revision = create_space.revision AND m.dimensions = create_space.dimensions;
    SELECT s.id INTO space_key FROM knowledge.spaces s WHERE s.kind = create_space.kind AND s.model_id = model_key;
    IF space_key IS NOT NULL THEN
        RETURN space_key;
    END IF;
    INSERT INTO knowledge.spaces AS s (kind, model_id, is_active)
    VALUES (kind, model_key, NOT EXISTS (SELECT FROM knowledge.spaces a WHERE a.kind = create_space.kind AND a.is_active))
    RETURNING s.id INTO space_key;
    leaf := 'chunk_vectors_' || replace(space_key::text, '-', '');
    EXECUTE format('CREATE TABLE knowledge.%I PARTITION OF knowledge.chunk_vectors FOR VALUES IN (%L)', leaf, space_key);
    EXECUTE format('ALTER TABLE knowledge.%I ADD CHECK (vector_dims(embedding) = %s)', leaf, dimensions);
    EXECUTE format('CREATE INDEX ON knowledge.%I USING hnsw ((embedding::%s(%s)) %s_cosine_ops)', leaf, indexed, dimensions, indexed);
    EXECUTE format('ALTER TABLE knowledge.%I ENABLE ROW LEVEL SECURITY', leaf);
    EXECUTE format('ALTER TABLE knowledge.%I FORCE ROW LEVEL SECURITY', leaf);
    RETURN space_key;
END
$$;

CREATE TABLE knowledge.rag_queries (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid NOT NULL REFERENCES identity.tenants (id) ON DELETE CASCADE,
    collection_id uuid,
    query_text text NOT NULL CHECK (length(query_text) BETWEEN 1 AND 10000),
    result_chunk_ids uuid[] NOT NULL DEFAULT '{}',
    result_scores real[] NOT NULL DEFAULT '{}',
    top_score real,
    strategy text NOT NULL CHECK (strategy IN ('hybrid', 'vector', 'lexical')),
    filters jsonb NOT NULL DEFAULT '{}',
    response_ms integer NOT NULL CHECK (response_ms >= 0),
    feedback jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (collection_id, tenant_id) REFERENCES knowledge.collections (id, tenant_id) ON DELETE SET NULL (collection_id)
);
CREATE INDEX rag_queries_tenant_id_created_at_idx ON knowledge.rag_queries (tenant_id, created_at DESC);
CREATE INDEX rag_queries_collection_id_idx ON knowledge.rag_queries (collection_id);

-- A document's status follows from its tasks, whoever ended or woke them: worker, rescue, operator.
CREATE FUNCTION knowledge.follow_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The payload may be foreign: a value that is no version must not stop whoever ends the task.
    version integer := CASE WHEN NEW.payload->>'version' ~ '^[0-9]{1,9}$' THEN (NEW.payload->>'version')::integer END;
BEGIN
    IF NEW.status = 'pending' THEN
        UPDATE knowledge.documents SET status = 'processing', error_message = NULL
        WHERE id = NEW.owner_id AND tenant_id = NEW.tenant_id AND status = 'failed'
            -- one of two failed tasks that is replayed does not mend the other
            AND NOT EXISTS (SELECT FROM queue.tasks_history other WHERE other.owner_id = NEW.owner_id
                            AND other.status = 'failed' AND other.payload->>'version' = next_version::text);
    ELSE
        UPDATE knowledge.documents SET status = 'failed',
            error_message = COALESCE(NEW.last_error, NEW.task_type || ' was cancelled')
        WHERE id = NEW.owner_id AND tenant_id = NEW.tenant_id
            -- a task of an older version says nothing about the newest
            AND COALESCE(version, next_version) >= next_version;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_live FOR EACH ROW
    WHEN (NEW.owner_kind = 'document') EXECUTE FUNCTION knowledge.follow_task();
CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_history FOR EACH ROW
    WHEN (NEW.owner_kind = 'document' AND NEW.status IN ('failed', 'cancelled')) EXECUTE FUNCTION knowledge.follow_task();

-- Loads pgvector's library, which alone knows the settings that the next function names.
SELECT '[1]'::vector;

-- Search one tenant's chunks in the active space: HNSW cosine and full text, fused by reciprocal rank (Cormack, Clarke,
-- Büttcher, SIGIR 2009; k = 60). Takes the tenant explicitly and runs as the owner, because the full-text operator is not
-- leakproof and row security would keep its index from being used; a session bound to one tenant gets no other.
-- `score` is the fused score, `similarity` the cosine similarity (NULL where only the words matched).
CREATE FUNCTION knowledge.search(tenant uuid, query_text text, query_vector vector, "limit" integer DEFAULT 10,
        collection uuid DEFAULT NULL, persona uuid DEFAULT NULL, candidates integer DEFAULT 50)
    RETURNS TABLE (chunk_id uuid, document_id uuid, document_name text, chunk_index integer, page integer, section text,
        text text, score double precision, similarity double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 100 AS $$
#variable_conflict use_column
DECLARE
    space uuid;
    dimensions integer;
    indexed text;
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM search.tenant THEN
        RAISE EXCEPTION 'search of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    SELECT s.id, m.dimensions INTO space, dimensions
    FROM knowledge.spaces s JOIN knowledge.embedding_models m ON m.id = s.model_id WHERE s.kind = 'chunks' AND s.is_active;
    indexed := CASE WHEN dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
    -- The cast to the space's dimensions has to stand in the query as it stands in the index.
    RETURN QUERY EXECUTE format($q$
        WITH near AS MATERIALIZED (
            SELECT c.id, 1 - (v.embedding::%1$s(%2$s) <=> $3::%1$s(%2$s)) AS similarity
            FROM knowledge.chunk_vectors v
            JOIN knowledge.chunks c ON c.id = v.chunk_id
            JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
            WHERE v.space_id = %3$L AND v.tenant_id = $1 AND c.tenant_id = $1
                AND ($4 IS NULL OR c.collection_id = $4) AND ($5 IS NULL OR c.persona_id = $5)
            ORDER BY v.embedding::%1$s(%2$s) <=> $3::%1$s(%2$s) LIMIT $6
        ), near_ranked AS (
            SELECT id, similarity, row_number() OVER (ORDER BY similarity DESC) AS place FROM near
        ), words AS MATERIALIZED (
            SELECT c.id, ts_rank(c.lexemes, q.query, 1) AS weight
            FROM (SELECT NULLIF(replace(plainto_tsquery('english', $2)::text, '&', '|'), '')::tsquery AS query) q
            JOIN knowledge.chunks c ON c.lexemes @@ q.query
            JOIN knowledge.documents d ON d.id = c.document_id AND d.current_version = c.version AND d.deleted_at IS NULL
            WHERE c.tenant_id = $1 AND ($4 IS NULL OR c.collection_id = $4) AND ($5 IS NULL OR c.persona_id = $5)
            ORDER BY weight DESC, c.id LIMIT $6
        ), words_ranked AS (
            SELECT id, row_number() OVER (ORDER BY weight DESC, id) AS place FROM words
        ), fused AS (
            SELECT id, n.similarity, COALESCE(1.0 / (60 + n.place), 0) + COALESCE(1.0 / (60 + w.place), 0) AS score
            FROM near_ranked n FULL JOIN words_ranked w USING (id)
            ORDER BY score DESC, id LIMIT $7
        )
        SELECT c.id, c.document_id, d.name, c.chunk_index, c.page, c.section, c.text, f.score::double precision, f.similarity
        FROM fused f JOIN knowledge.chunks c ON c.id = f.id JOIN knowledge.documents d ON d.id = c.document_id
        ORDER BY f.score DESC, c.id
        $q$, indexed, dimensions, space)
    USING search.tenant, search.query_text, search.query_vector, search.collection, search.persona, search.candidates, search."limit";
END
$$;

-- ---------------------------------------------------------------------------------------------------- audit

-- What was done by whom. No foreign keys out of it, or nothing could ever be erased; append-only by its grants.
CREATE TABLE audit.audit_events (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid,
    user_id uuid,
    persona_id uuid,
    run_id uuid,
    trace_id text CHECK (length(trace_id) <= 255),
    event_type text NOT NULL CHECK (length(event_type) BETWEEN 1 AND 100),
    event_category text NOT NULL CHECK (event_category IN ('action', 'access', 'error', 'system')),
    description text NOT NULL,
    actor text NOT NULL DEFAULT session_user CHECK (length(actor) <= 255),
    resource_type text CHECK (length(resource_type) <= 100),
    resource_id text CHECK (length(resource_id) <= 255),
    old_values jsonb,
    new_values jsonb,
    status text NOT NULL DEFAULT 'success' CHECK (status IN ('success', 'failure')),
    error_message text,
    ip_address inet,
    user_agent text,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_events_tenant_id_created_at_idx ON audit.audit_events (tenant_id, created_at DESC);
CREATE INDEX audit_events_user_id_idx ON audit.audit_events (user_id);
CREATE INDEX audit_events_persona_id_created_at_idx ON audit.audit_events (persona_id, created_at);
CREATE INDEX audit_events_run_id_idx ON audit.audit_events (run_id);
CREATE INDEX audit_events_trace_id_idx ON audit.audit_events (trace_id);
CREATE INDEX audit_events_event_type_idx ON audit.audit_events (event_type);
CREATE INDEX audit_events_resource_type_idx ON audit.audit_events (resource_type);
CREATE INDEX audit_events_created_at_idx ON audit.audit_events (created_at);

-- ---------------------------------------------------------------------------------------------------- row security

-- Every tenant-owned table: a permissive policy that admits the role, and a RESTRICTIVE one that binds it to the
-- transaction's tenant. Permissive policies are ORed, so only a restrictive one can bind. The owner (migrations,
-- definer functions) passes under FORCE by a policy of its own; nobody has BYPASSRLS.
DO $$
DECLARE
    relation regclass;
    bound text := 'tenant_id = (SELECT identity.current_tenant_id())';
    unbound text := '(SELECT identity.current_tenant_id()) IS NULL';
BEGIN
    -- The queue's own statements run with no tenant bound and see all tasks; a handler's transaction always has one.
    FOREACH relation IN ARRAY ARRAY['queue.outbox_tasks', 'queue.tasks_live', 'queue.tasks_history', 'queue.attempts']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY engine_passes ON %s TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_producer USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY reader_passes ON %s FOR SELECT TO greenroom_reader USING (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader USING (%s OR %s) WITH CHECK (%s OR %s)', relation, bound, unbound, bound, unbound);
        EXECUTE format('CREATE POLICY producer_binds ON %s AS RESTRICTIVE TO greenroom_producer USING (tenant_id = (SELECT COALESCE(identity.current_tenant_id(), identity.default_tenant_id()))) WITH CHECK (tenant_id = (SELECT COALESCE(identity.current_tenant_id(), identity.default_tenant_id())))', relation);
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['assistants.personas', 'knowledge.collections', 'knowledge.documents', 'knowledge.document_texts',
            'knowledge.chunks', 'knowledge.chunk_vectors', 'knowledge.rag_queries', 'audit.audit_events']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader USING (%s) WITH CHECK (%s)', relation, bound, bound);
    END LOOP;
    -- An operator's deed may concern no tenant.
    DROP POLICY tenant_binds ON audit.audit_events;
    EXECUTE format('CREATE POLICY tenant_binds ON audit.audit_events AS RESTRICTIVE TO greenroom_worker, greenroom_reader USING (%s) WITH CHECK (%s)', bound, bound);
    EXECUTE 'ALTER TABLE identity.tenants ENABLE ROW LEVEL SECURITY';
    EXECUTE 'ALTER TABLE identity.tenants FORCE ROW LEVEL SECURITY';
    EXECUTE 'CREATE POLICY owner_passes ON identity.tenants TO CURRENT_USER USING (true) WITH CHECK (true)';
    EXECUTE 'CREATE POLICY roles_pass ON identity.tenants FOR SELECT TO greenroom_relay, greenroom_worker, greenroom_operator, greenroom_reader, greenroom_system USING (true)';
    EXECUTE format('CREATE POLICY tenant_binds ON identity.tenants AS RESTRICTIVE TO greenroom_worker USING (id = (SELECT identity.current_tenant_id()))');
END
$$;

-- ---------------------------------------------------------------------------------------------------- grants

GRANT USAGE ON SCHEMA ops, identity, queue TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_producer, greenroom_operator, greenroom_reader;
GRANT USAGE ON SCHEMA assistants, knowledge, audit TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;

GRANT SELECT ON queue.task_types TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_producer, greenroom_operator, greenroom_reader;
GRANT SELECT ON queue.queues TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT SELECT ON queue.processes TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON queue.processes TO greenroom_relay, greenroom_worker;
GRANT INSERT, UPDATE ON queue.task_types TO greenroom_worker;
GRANT INSERT, UPDATE ON queue.queues TO greenroom_operator;

GRANT SELECT, INSERT, UPDATE, DELETE ON queue.outbox_tasks, queue.tasks_live, queue.tasks_history
    TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT, INSERT ON queue.attempts TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT ON queue.outbox_tasks, queue.attempts TO greenroom_reader;
-- A producer enqueues and looks its own tasks up; the state of the machine is not its to write.
-- What says "checked" (payload_version) and the machine's own columns are set by the functions above alone.
GRANT INSERT (task_type, payload, tenant_id, owner_kind, owner_id, metadata, trace_context, queue, priority, run_after, unique_key,
    max_attempts) ON queue.outbox_tasks TO greenroom_producer;
GRANT SELECT ON queue.outbox_tasks, queue.tasks_live, queue.tasks_history TO greenroom_producer;

GRANT SELECT ON identity.tenants TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT SELECT ON knowledge.embedding_models, knowledge.spaces TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON assistants.personas, knowledge.collections, knowledge.documents, knowledge.document_texts,
    knowledge.chunks, knowledge.chunk_vectors TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT, INSERT, UPDATE ON knowledge.rag_queries TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT ON assistants.personas, knowledge.collections, knowledge.documents, knowledge.document_texts, knowledge.chunks,
    knowledge.chunk_vectors, knowledge.rag_queries, audit.audit_events TO greenroom_reader;
GRANT SELECT, INSERT ON audit.audit_events TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA ops TO greenroom_reader;

REVOKE EXECUTE ON FUNCTION knowledge.search FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.search TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
REVOKE EXECUTE ON FUNCTION queue.create_months, queue.create_month, knowledge.create_space FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue.create_months TO greenroom_relay;
