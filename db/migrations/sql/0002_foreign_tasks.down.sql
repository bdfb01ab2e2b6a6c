-- Back to the first release's functions and columns. What a held task leaves open is filled in by the house's defaults.

DELETE FROM queue.processes;
ALTER TABLE queue.processes DROP CONSTRAINT processes_task_types_check;
ALTER TABLE queue.processes ALTER COLUMN task_types DROP DEFAULT;
ALTER TABLE queue.processes ALTER COLUMN task_types TYPE text[] USING '{}'::text[];
ALTER TABLE queue.processes ALTER COLUMN task_types SET DEFAULT '{}';
ALTER TABLE queue.processes RENAME COLUMN loops_late TO loop_ages;

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
CREATE OR REPLACE FUNCTION queue.complete_foreign_task() RETURNS trigger
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

-- A tenant that is suspended has its waiting tasks held; one that is active again has them released.
CREATE OR REPLACE FUNCTION queue.follow_tenant() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- Enqueue tasks of one type. `options`: queue, priority, run_after, unique_key, max_attempts, tenant_id, owner_kind,
-- owner_id, metadata, trace_context; they hold for all. Returns the ids in the order of the payloads; with a unique_key the
-- id of the live task that has it already. Raises GR001 for an unknown type, GR002 for a payload and GR003 for an option
-- that cannot run. `payload_version` says that the caller validated the payloads as that version itself.
CREATE OR REPLACE FUNCTION queue.enqueue_many(task_type text, payloads jsonb[], options jsonb DEFAULT '{}', payload_version smallint DEFAULT NULL)
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

-- A document's status follows from its tasks, whoever ended or woke them: worker, rescue, operator.
CREATE OR REPLACE FUNCTION knowledge.follow_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

DROP FUNCTION queue.completed(queue.tasks_live);
DROP FUNCTION queue.hold_reason_of(queue.tasks_live, queue.task_types);
DROP FUNCTION queue.payload_error(queue.task_types, jsonb);
DROP FUNCTION queue.tenant_hold_reason(text);
DROP FUNCTION queue.tenant_status(uuid);
DROP FUNCTION queue.due_time(timestamptz);

ALTER TABLE queue.outbox_tasks DROP CONSTRAINT run_after_is_possible;
ALTER TABLE queue.outbox_tasks DROP COLUMN left_open;
ALTER TABLE queue.outbox_tasks ALTER COLUMN queue SET DEFAULT 'default';
ALTER TABLE queue.outbox_tasks ALTER COLUMN priority SET DEFAULT 0;
ALTER TABLE queue.outbox_tasks ALTER COLUMN max_attempts SET DEFAULT 5;

GRANT EXECUTE ON FUNCTION queue.complete_foreign_task, queue.ring, queue.follow_tenant, knowledge.follow_task,
    queue.enqueue, queue.enqueue_many TO PUBLIC;
REVOKE EXECUTE ON FUNCTION queue.enqueue, queue.enqueue_many
    FROM greenroom_producer, greenroom_worker, greenroom_system, greenroom_operator;
