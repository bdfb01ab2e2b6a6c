-- What an INSERT leaves out is told apart from what it says, tenants are held without locks, functions of the owner are nobody's
-- but for a reason, and a worker says which payload versions it knows. Processes of the version before must have ended.

-- Who works here makes itself known anew. Of each task type `task_types` has the payload version that the worker knows;
-- `loops_late` has seconds that a loop is behind.
DELETE FROM queue.processes;
ALTER TABLE queue.processes ALTER COLUMN task_types DROP DEFAULT;
ALTER TABLE queue.processes ALTER COLUMN task_types TYPE jsonb USING '{}'::jsonb;
ALTER TABLE queue.processes ALTER COLUMN task_types SET DEFAULT '{}';
ALTER TABLE queue.processes ADD CONSTRAINT processes_task_types_check CHECK (jsonb_typeof(task_types) = 'object');
ALTER TABLE queue.processes RENAME COLUMN loop_ages TO loops_late;

-- queue, priority and max_attempts have no DEFAULT: what an INSERT leaves out, its type says. `left_open` names which of the
-- three a type that nobody has published yet is to say.
ALTER TABLE queue.outbox_tasks ALTER COLUMN queue DROP DEFAULT;
ALTER TABLE queue.outbox_tasks ALTER COLUMN priority DROP DEFAULT;
ALTER TABLE queue.outbox_tasks ALTER COLUMN max_attempts DROP DEFAULT;
ALTER TABLE queue.outbox_tasks ADD COLUMN left_open text[];

-- Due times lie between years that every client's clock knows.
UPDATE queue.outbox_tasks SET run_after = CASE WHEN run_after < '1970-01-01 00:00+00' THEN created_at ELSE '9998-12-31 00:00+00' END
WHERE run_after < '1970-01-01 00:00+00' OR run_after >= '9999-01-01 00:00+00';
ALTER TABLE queue.outbox_tasks ADD CONSTRAINT run_after_is_possible
    CHECK (run_after >= '1970-01-01 00:00+00' AND run_after < '9999-01-01 00:00+00');

-- The due time that a producer gave, or now. Refuses what the table would: the rank cannot be made of an infinity.
CREATE OR REPLACE FUNCTION queue.due_time(given timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF given < '1970-01-01 00:00+00' OR given >= '9999-01-01 00:00+00' THEN
        RAISE EXCEPTION 'run_after must lie between the years 1970 and 9998' USING ERRCODE = 'GR003';
    END IF;
    RETURN COALESCE(given, now());
END
$$;

-- The status of a tenant, or NULL where there is none of that id. Takes no lock, or a producer could hold up its tenant's
-- return: a task that is held though its tenant became active meanwhile is released by the relay's caretaker.
CREATE OR REPLACE FUNCTION queue.tenant_status(tenant uuid) RETURNS text LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT status FROM identity.tenants WHERE id = tenant
$$;

DROP FUNCTION queue.hold_reason_of(text, jsonb, uuid, queue.task_types);
DROP FUNCTION queue.tenant_hold_reason(uuid);

-- Why the tasks of a tenant of that status wait, or NULL.
CREATE OR REPLACE FUNCTION queue.tenant_hold_reason(status text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN status <> 'active' THEN 'tenant is ' || status END
$$;

-- Why a payload is none of its type, or NULL.
CREATE OR REPLACE FUNCTION queue.payload_error(known queue.task_types, payload jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(payload) IS DISTINCT FROM 'object' THEN 'it must be a JSON object'
                ELSE queue.schema_error(known.payload_schema, payload, known.payload_schema, '') END
$$;

-- Why a task must be held, or NULL. A payload that was checked before is not checked again: it may be of an older
-- version, which the worker upgrades.
CREATE OR REPLACE FUNCTION queue.hold_reason_of(task queue.tasks_live, known queue.task_types) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
    state text;
BEGIN
    IF known.name IS NULL THEN
        RETURN format('unknown task type %s: publish it with `greenroom db migrate`, then `greenroom tasks release`', task.task_type);
    END IF;
    IF task.payload_version IS NULL THEN
        problem := queue.payload_error(known, task.payload);
    END IF;
    IF problem IS NOT NULL THEN
        RETURN left('invalid payload: ' || problem, 2000);
    END IF;
    IF known.scope = 'system' THEN
        RETURN NULL;
    END IF;
    state := queue.tenant_status(task.tenant_id);
    RETURN CASE WHEN state IS NULL THEN format('unknown tenant %s', task.tenant_id) ELSE queue.tenant_hold_reason(state) END;
END
$$;

-- A task as its type has it today: what its producer left open is filled in, what cannot run is held, and payload_version
-- says that its payload was checked. While the type is unknown, the house's defaults stand in for it.
CREATE OR REPLACE FUNCTION queue.completed(task queue.tasks_live) RETURNS queue.tasks_live
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known queue.task_types := queue.task_type(task.task_type);
BEGIN
    task.left_open := COALESCE(task.left_open, array_remove(ARRAY[
        CASE WHEN task.queue IS NULL THEN 'queue' END, CASE WHEN task.priority IS NULL THEN 'priority' END,
        CASE WHEN task.max_attempts IS NULL THEN 'max_attempts' END], NULL));
    IF 'queue' = ANY (task.left_open) THEN task.queue := COALESCE(known.queue, 'default'); END IF;
    IF 'priority' = ANY (task.left_open) THEN task.priority := COALESCE(known.priority, 0); END IF;
    IF 'max_attempts' = ANY (task.left_open) THEN task.max_attempts := COALESCE(known.max_attempts, 5); END IF;
    IF known.name IS NOT NULL THEN
        task.task_type := known.name;
        task.left_open := NULL;
    END IF;
    IF known.scope = 'system' THEN
        task.tenant_id := NULL;
    ELSE
        task.tenant_id := COALESCE(task.tenant_id, identity.current_tenant_id(), identity.default_tenant_id());
    END IF;
    task.run_after := queue.due_time(task.run_after);
    task.rank := queue.rank_of(task.run_after, task.priority);
    task.is_due := task.run_after <= now();
    task.hold_reason := queue.hold_reason_of(task, known);
    IF task.hold_reason IS NULL THEN
        task.payload_version := COALESCE(task.payload_version, known.payload_version);
    END IF;
    RETURN task;
END
$$;

-- A bare INSERT says type and payload and nothing of ours. Rows of our own `enqueue` carry payload_version, come
-- complete, and do not fire this.
CREATE OR REPLACE FUNCTION queue.complete_foreign_task() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given text := NEW.hold_reason;
BEGIN
    NEW := queue.completed(NEW);
    IF given IS NOT NULL THEN
        NEW.hold_reason := given; -- whoever holds a task lets it go, by a release
        NEW.payload_version := NULL;
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
        WHERE tenant_id = NEW.id AND hold_reason = queue.tenant_hold_reason(OLD.status);
    ELSE
        UPDATE queue.tasks_live SET hold_reason = queue.tenant_hold_reason(NEW.status), updated_at = now()
        WHERE tenant_id = NEW.id AND status = 'pending' AND claimed_until IS NULL
            AND (hold_reason IS NULL OR hold_reason = queue.tenant_hold_reason(OLD.status));
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
    state text;
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
            problem := queue.payload_error(known, payload);
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
    due := queue.due_time((options->>'run_after')::timestamptz);
    step := COALESCE((options->>'priority')::smallint, known.priority);
    state := queue.tenant_status(tenant);
    IF state IS NULL AND tenant IS NOT NULL THEN
        RAISE EXCEPTION 'unknown tenant %', tenant USING ERRCODE = 'GR003';
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
                options->>'unique_key', COALESCE((options->>'max_attempts')::smallint, known.max_attempts), queue.tenant_hold_reason(state)
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

-- A document's status follows from the tasks that make it searchable, whoever ended or woke them: worker, rescue,
-- operator. Other tasks may work for a document too, and say nothing about its text.
CREATE OR REPLACE FUNCTION knowledge.follow_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    makers CONSTANT text[] := ARRAY['document.ingest', 'document.chunk', 'chunks.embed'];
    -- The payload may be foreign: a value that is no version must not stop whoever ends the task.
    version integer := CASE WHEN NEW.payload->>'version' ~ '^[0-9]{1,9}$' THEN (NEW.payload->>'version')::integer END;
BEGIN
    IF NEW.task_type <> ALL (makers) THEN
        RETURN NULL;
    END IF;
    IF NEW.status = 'pending' THEN
        UPDATE knowledge.documents SET status = 'processing', error_message = NULL
        WHERE id = NEW.owner_id AND tenant_id = NEW.tenant_id AND status = 'failed'
            -- one of two tasks without which the version cannot be complete is replayed: that does not mend the other
            AND NOT EXISTS (SELECT FROM queue.tasks_history other WHERE other.owner_id = NEW.owner_id
                            AND other.owner_kind = 'document' AND other.task_type = ANY (makers)
                            AND other.status IN ('failed', 'cancelled') AND other.payload->>'version' = next_version::text);
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

-- A function that runs as the owner is nobody's but for a reason; PUBLIC would have each by default. A trigger's function
-- too: on a temporary table of its own, any role could have it run over rows of its choice.
REVOKE EXECUTE ON FUNCTION queue.complete_foreign_task, queue.ring, queue.follow_tenant, knowledge.follow_task FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION queue.enqueue, queue.enqueue_many, queue.tenant_status FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue.enqueue, queue.enqueue_many TO greenroom_producer, greenroom_worker, greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION queue.tenant_status TO greenroom_operator; -- a release looks at the tenant
