-- Back to enqueue by INSERT through the parent, without dependencies and batches. Processes must have ended. A task that waits for
-- others is held: nothing here would let it wait.

DROP TRIGGER note_end ON queue.tasks_live;
UPDATE queue.tasks_live SET hold_reason = COALESCE(hold_reason, 'waited for other tasks when the schema went back: see to them, then release it')
WHERE is_waiting;
-- Of two tasks of a key, the one that waited behind the other loses it.
UPDATE queue.tasks_live SET unique_key = NULL WHERE unique_slot > 0;

DROP FUNCTION queue.call_back(uuid);
DROP FUNCTION queue.insert_callback(queue.batches, jsonb);
DROP FUNCTION queue.close_batch(uuid);
DROP FUNCTION queue.open_batch(text, jsonb, uuid);
DROP FUNCTION queue.enqueue_keyed(queue.tasks_live, jsonb, uuid[]);
DROP FUNCTION queue.check_circle(uuid, uuid[]);
DROP FUNCTION queue.key_holders(text, uuid);
DROP FUNCTION queue.join_batch(uuid, uuid, integer);
DROP FUNCTION queue.depend_on(uuid[], uuid[], uuid, text);
DROP FUNCTION queue.check_tenant(uuid);
DROP FUNCTION queue.check_options(jsonb, integer);
DROP FUNCTION queue.note_end();
DROP FUNCTION queue.ring_sleepers();
DROP TABLE queue.settlements, queue.batches, queue.task_dependencies;

-- Enqueue one task; see queue.enqueue_many. With a unique_key whose live task another transaction has not committed yet,
-- waits for it.
CREATE OR REPLACE FUNCTION queue.enqueue(task_type text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT id FROM queue.enqueue_many(task_type, ARRAY[payload], options) AS id LIMIT 1
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

-- Create the partition of `parent` for the month of `moment`, if it is missing. Created apart and attached: PARTITION
-- OF would lock the parent against claims; the CHECK spares ATTACH its scan.
CREATE OR REPLACE FUNCTION queue.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
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

DROP FUNCTION queue.enqueue_array(text, jsonb, jsonb, smallint);

DROP INDEX queue.tasks_live_waiting_idx;
DROP INDEX queue.tasks_live_deferred_idx;
DROP INDEX queue.tasks_live_unique_key;
DROP TRIGGER document_follows ON queue.tasks_live;
DROP TRIGGER document_follows ON queue.tasks_history;
ALTER TABLE queue.tasks_live DROP CONSTRAINT pending_is_unleased, DROP CONSTRAINT in_progress_is_leased,
    DROP CONSTRAINT held_is_unclaimed, DROP CONSTRAINT waiting_is_not_due, DROP CONSTRAINT owner_is_whole,
    DROP CONSTRAINT cancel_says_why;
ALTER TABLE queue.tasks_history DROP CONSTRAINT ended_is_released, DROP CONSTRAINT done_has_run, DROP CONSTRAINT failed_says_why;
ALTER TABLE queue.outbox_tasks DROP COLUMN is_waiting, DROP COLUMN is_watched, DROP COLUMN batch_id, DROP COLUMN unique_slot,
    ALTER task_type TYPE text, ALTER queue TYPE text, ALTER unique_key TYPE text, ALTER payload TYPE jsonb, ALTER result TYPE jsonb,
    ALTER metadata TYPE jsonb, ALTER priority TYPE smallint, ALTER max_attempts TYPE smallint, ALTER attempts TYPE integer,
    ALTER snoozes TYPE integer, ALTER progress TYPE real, ALTER run_after TYPE timestamptz, ALTER owner_kind TYPE text,
    ALTER trace_context TYPE text, ALTER progress_message TYPE text, ALTER hold_reason TYPE text, ALTER last_error TYPE text,
    ALTER cancel_reason TYPE text;
ALTER TABLE queue.outbox_tasks
    ADD CONSTRAINT outbox_tasks_task_type_check CHECK (length(task_type) BETWEEN 1 AND 100),
    ADD CONSTRAINT outbox_tasks_queue_check CHECK (length(queue) BETWEEN 1 AND 100),
    ADD CONSTRAINT outbox_tasks_unique_key_check CHECK (length(unique_key) BETWEEN 1 AND 200),
    ADD CONSTRAINT outbox_tasks_payload_check CHECK (pg_column_size(payload) <= 1048576),
    ADD CONSTRAINT outbox_tasks_result_check CHECK (pg_column_size(result) <= 1048576),
    ADD CONSTRAINT outbox_tasks_metadata_check CHECK (pg_column_size(metadata) <= 65536),
    ADD CONSTRAINT outbox_tasks_priority_check CHECK (priority BETWEEN -100 AND 100),
    ADD CONSTRAINT outbox_tasks_max_attempts_check CHECK (max_attempts BETWEEN 1 AND 100),
    ADD CONSTRAINT outbox_tasks_attempts_check CHECK (attempts >= 0),
    ADD CONSTRAINT outbox_tasks_snoozes_check CHECK (snoozes >= 0),
    ADD CONSTRAINT outbox_tasks_progress_check CHECK (progress BETWEEN 0 AND 1),
    ADD CONSTRAINT outbox_tasks_owner_kind_check CHECK (length(owner_kind) <= 50),
    ADD CONSTRAINT outbox_tasks_trace_context_check CHECK (length(trace_context) <= 512),
    ADD CONSTRAINT outbox_tasks_progress_message_check CHECK (length(progress_message) <= 1000),
    ADD CONSTRAINT outbox_tasks_hold_reason_check CHECK (length(hold_reason) <= 2000),
    ADD CONSTRAINT outbox_tasks_last_error_check CHECK (length(last_error) <= 20000),
    ADD CONSTRAINT outbox_tasks_cancel_reason_check CHECK (length(cancel_reason) <= 10000),
    ADD CONSTRAINT run_after_is_possible CHECK (run_after >= '1970-01-01 00:00+00' AND run_after < '9999-01-01 00:00+00'),
    ADD CONSTRAINT pending_is_unleased CHECK
        (status <> 'pending' OR (lease_until IS NULL AND deadline_at IS NULL AND worker_id IS NULL AND completed_at IS NULL)),
    ADD CONSTRAINT in_progress_is_leased CHECK
        (status <> 'in_progress' OR (lease_until IS NOT NULL AND deadline_at IS NOT NULL AND worker_id IS NOT NULL
            AND started_at IS NOT NULL AND attempts > 0 AND claimed_until IS NOT NULL AND completed_at IS NULL)),
    ADD CONSTRAINT ended_is_released CHECK
        (status NOT IN ('done', 'failed', 'cancelled') OR (completed_at IS NOT NULL AND lease_until IS NULL
            AND claimed_until IS NULL AND hold_reason IS NULL)),
    ADD CONSTRAINT done_has_run CHECK (status <> 'done' OR (started_at IS NOT NULL AND failed_at IS NULL)),
    ADD CONSTRAINT failed_says_why CHECK (status <> 'failed' OR (failed_at IS NOT NULL AND last_error IS NOT NULL)),
    ADD CONSTRAINT held_is_unclaimed CHECK (hold_reason IS NULL OR (status = 'pending' AND claimed_until IS NULL)),
    ADD CONSTRAINT owner_is_whole CHECK ((owner_kind IS NULL) = (owner_id IS NULL)),
    ADD CONSTRAINT cancel_says_why CHECK ((cancel_requested_at IS NULL) = (cancel_reason IS NULL));
CREATE UNIQUE INDEX tasks_live_unique_key ON queue.tasks_live (tenant_id, unique_key) NULLS NOT DISTINCT
    WHERE unique_key IS NOT NULL;
CREATE INDEX tasks_live_deferred_idx ON queue.tasks_live (run_after) WHERE NOT is_due;
CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_live FOR EACH ROW
    WHEN (NEW.owner_kind = 'document') EXECUTE FUNCTION knowledge.follow_task();
CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_history FOR EACH ROW
    WHEN (NEW.owner_kind = 'document' AND NEW.status IN ('failed', 'cancelled')) EXECUTE FUNCTION knowledge.follow_task();

DROP DOMAIN queue.short_name, queue.key_text, queue.large_json, queue.small_json, queue.priority, queue.attempt_limit,
    queue.whole_number, queue.share, queue.due_at, queue.text_50, queue.text_512, queue.text_1000, queue.text_2000, queue.text_10000,
    queue.text_20000;
