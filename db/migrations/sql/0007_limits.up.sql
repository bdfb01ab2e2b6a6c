-- Limits of concurrency and rate, by queue, task type, tenant and key; pauses that end by themselves (docs/limits.md).
-- Processes of the version before must have ended.

-- What tasks have in common that a limit goes by, such as the provider that they call. `*` would be a limit's word for each.
CREATE DOMAIN queue.limit_key AS text CONSTRAINT limit_key_is_1_to_200_characters CHECK (length(VALUE) BETWEEN 1 AND 200)
    CONSTRAINT limit_key_is_no_star CHECK (VALUE <> '*');
ALTER TABLE queue.outbox_tasks ADD COLUMN limit_key queue.limit_key;
ALTER TABLE queue.task_types ADD COLUMN limit_key queue.limit_key;
GRANT INSERT (limit_key) ON queue.outbox_tasks TO greenroom_producer;

-- The claim reads this one, lane by lane: a tenant's tasks of one key, or of none (''), by rank. A key that is at its limit
-- is passed over as a whole, however many tasks wait for it.
DROP INDEX queue.tasks_live_claim_idx;
CREATE INDEX tasks_live_claim_idx ON queue.tasks_live (queue,
    (CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END),
    (CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END) COLLATE "C", rank)
    WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL;

-- One row a limit: on one queue, task type, tenant or key, or on each of them by itself (`*`). What the row of one name
-- leaves open, that of `*` says. A row that is nothing but a pause goes when the pause is over for long.
CREATE TABLE queue.limits (
    kind text NOT NULL CHECK (kind IN ('queue', 'task_type', 'tenant', 'key')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- tasks that are claimed or in progress at once
    concurrency integer CHECK (concurrency >= 1),
    -- claims in each rate_seconds; burst is how many may come at once after a rest
    rate double precision CHECK (rate > 0 AND rate <= 1000000),
    rate_seconds double precision CHECK (rate_seconds > 0 AND rate_seconds <= 31536000),
    burst integer CHECK (burst >= 1),
    -- a provider has refused: nothing of it is claimed before
    paused_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CONSTRAINT rate_is_whole CHECK (num_nulls(rate, rate_seconds, burst) IN (0, 3)),
    CONSTRAINT limit_limits CHECK (num_nonnulls(concurrency, rate, paused_until) > 0),
    CONSTRAINT one_is_paused CHECK (paused_until IS NULL OR name <> '*'),
    CONSTRAINT tenant_is_an_id CHECK (kind <> 'tenant' OR name = '*' OR name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
) WITH (fillfactor = 50);
CREATE TRIGGER touch BEFORE UPDATE ON queue.limits FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- The token buckets, one for each queue, task type, tenant or key that a rate holds for; a bucket that is not here is full.
-- Written under the lock of the limit's row.
CREATE TABLE queue.limit_tokens (
    kind text NOT NULL CHECK (kind IN ('queue', 'task_type', 'tenant', 'key')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    tokens double precision NOT NULL,
    refilled_at timestamptz NOT NULL,
    PRIMARY KEY (kind, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Nothing of that key is claimed for so many seconds, at most an hour: its provider has refused. A longer pause stays. What
-- is on its way to workers is taken back: whoever gets such a message finds nothing to take.
CREATE FUNCTION queue.pause_key(key text, seconds double precision) RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO queue.limits AS known (kind, name, paused_until)
    VALUES ('key', key, clock_timestamp() + make_interval(secs => LEAST(GREATEST(seconds, 0), 3600)))
    ON CONFLICT (kind, name) DO UPDATE SET paused_until = GREATEST(known.paused_until, EXCLUDED.paused_until);
    UPDATE queue.tasks_live SET claimed_until = NULL, updated_at = now() WHERE id IN (
        SELECT id FROM queue.tasks_live
        WHERE claimed_until IS NOT NULL AND limit_key = key AND status = 'pending' FOR UPDATE SKIP LOCKED);
$$;

-- A queue's pause ends at `resume_at`, if it has one: nobody needs to do anything then.
ALTER TABLE queue.queues ADD COLUMN resume_at timestamptz;
ALTER TABLE queue.queues ADD CONSTRAINT what_resumes_is_paused CHECK (resume_at IS NULL OR paused_at IS NOT NULL);

-- Limits are no tenant's: an operator writes them, who serves the queues reads them and keeps the buckets.
GRANT SELECT ON queue.limits, queue.limit_tokens
    TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
-- of any column: a row is locked by whoever may update it
GRANT UPDATE (updated_at), DELETE ON queue.limits TO greenroom_relay;
GRANT INSERT, UPDATE, DELETE ON queue.limit_tokens TO greenroom_relay;
GRANT INSERT, UPDATE, DELETE ON queue.limits TO greenroom_operator;
GRANT DELETE ON queue.limit_tokens TO greenroom_operator;
REVOKE EXECUTE ON FUNCTION queue.pause_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue.pause_key TO greenroom_worker, greenroom_system;

-- ---------------------------------------------------------------------------------------------------- enqueue

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
    task.limit_key := COALESCE(task.limit_key, known.limit_key);
    task.run_after := queue.due_time(task.run_after);
    task.rank := queue.rank_of(task.run_after, task.priority);
    task.is_due := task.run_after <= now() AND NOT task.is_waiting;
    task.hold_reason := queue.hold_reason_of(task, known);
    IF task.hold_reason IS NULL THEN
        task.payload_version := COALESCE(task.payload_version, known.payload_version);
    END IF;
    RETURN task;
END
$$;

-- Refuse options that contradict themselves or that `total` tasks cannot share (GR003). What the columns bound, they refuse.
CREATE OR REPLACE FUNCTION queue.check_options(options jsonb, total integer) RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown jsonb := options - ARRAY['queue', 'priority', 'run_after', 'unique_key', 'unique_mode', 'debounce_seconds',
        'debounce_latest_seconds', 'max_attempts', 'tenant_id', 'owner_kind', 'owner_id', 'metadata', 'trace_context', 'depends_on',
        'on_parent_failed', 'batch_id', 'limit_key'];
    mode text := COALESCE(options->>'unique_mode', 'keep');
    problem text;
BEGIN
    problem := CASE
        WHEN unknown <> '{}' THEN
            'unknown option ' || (SELECT string_agg(key, ', ') FROM jsonb_object_keys(unknown) AS key)
        WHEN options ? 'unique_key' AND total <> 1 THEN format('a unique_key names one task, not %s', total)
        WHEN length(options->>'unique_key') NOT BETWEEN 1 AND 200 THEN
            format('a unique_key has 1 to 200 characters, not %s: use a hash of what is longer', length(options->>'unique_key'))
        WHEN length(options->>'limit_key') NOT BETWEEN 1 AND 200 OR options->>'limit_key' = '*' THEN
            'a limit_key has 1 to 200 characters and is not *'
        WHEN mode NOT IN ('keep', 'replace', 'debounce') THEN 'unique_mode is one of keep, replace and debounce'
        WHEN NOT options ? 'unique_key' AND options ? 'unique_mode' THEN 'unique_mode says what to do about a unique_key: give one'
        WHEN (mode = 'debounce') <> (options ? 'debounce_seconds') THEN
            'unique_mode debounce and debounce_seconds go together'
        WHEN mode = 'debounce' AND options ? 'run_after' THEN 'debounce_seconds says when: leave run_after out'
        WHEN options ? 'debounce_latest_seconds' AND mode <> 'debounce' THEN 'debounce_latest_seconds is for unique_mode debounce'
        WHEN (options->>'debounce_seconds')::float8 NOT BETWEEN 0 AND 31536000
            OR (options->>'debounce_latest_seconds')::float8 NOT BETWEEN 0 AND 31536000 THEN
            'debounce_seconds and debounce_latest_seconds are 0 to 31,536,000 (a year)'
        WHEN (options->>'debounce_latest_seconds')::float8 < (options->>'debounce_seconds')::float8 THEN
            'debounce_latest_seconds is at least debounce_seconds'
        WHEN jsonb_typeof(options->'depends_on') <> 'array' THEN 'depends_on is a list of task ids'
        WHEN jsonb_array_length(options->'depends_on') > 100000 THEN 'depends_on names at most 100,000 tasks'
        WHEN COALESCE(options->>'on_parent_failed', 'fail') NOT IN ('fail', 'cancel', 'run') THEN
            'on_parent_failed is one of fail, cancel and run'
        WHEN options ? 'on_parent_failed' AND NOT options ? 'depends_on' THEN
            'on_parent_failed says what to do about a parent: give depends_on'
        END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'GR003';
    END IF;
END
$$;

-- Enqueue one task under its unique key, which may mean that a live task stays (keep) or takes the new one's place (replace,
-- debounce). One that runs, or is on its way to a worker, is left alone: what replaces it waits until it has ended, however.
CREATE OR REPLACE FUNCTION queue.enqueue_keyed(task queue.tasks_live, options jsonb, parents uuid[]) RETURNS uuid LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mode text := COALESCE(options->>'unique_mode', 'keep');
    latest interval := make_interval(secs => (options->>'debounce_latest_seconds')::float8);
    policy text := COALESCE(options->>'on_parent_failed', 'fail');
    holder record;
    running uuid[];
    found_id uuid;
BEGIN
    LOOP
        SELECT h.id INTO holder FROM queue.key_holders(task.unique_key, task.tenant_id) h
        WHERE mode = 'keep' OR h.is_replaceable ORDER BY h.is_replaceable DESC, h.id DESC LIMIT 1;
        IF FOUND AND mode = 'keep' THEN
            RETURN holder.id;
        ELSIF FOUND THEN
            IF cardinality(parents) > 0 THEN
                PERFORM queue.check_circle(holder.id, parents);
            END IF;
            SELECT array_agg(d.parent_id) INTO running FROM queue.task_dependencies d
                JOIN queue.key_holders(task.unique_key, task.tenant_id) h ON h.id = d.parent_id
                WHERE d.child_id = holder.id AND d.parent_status IS NULL;
            UPDATE queue.tasks_live live SET task_type = task.task_type, payload = task.payload, payload_version = task.payload_version,
                owner_kind = task.owner_kind, owner_id = task.owner_id, metadata = task.metadata, trace_context = task.trace_context,
                queue = task.queue, limit_key = task.limit_key, priority = task.priority, max_attempts = task.max_attempts, hold_reason = task.hold_reason,
                left_open = NULL, attempts = 0, snoozes = 0, last_error = NULL, updated_at = now(),
                run_after = due.moment, rank = queue.rank_of(due.moment, task.priority),
                is_waiting = cardinality(parents || running) > 0,
                is_due = due.moment <= now() AND cardinality(parents || running) = 0
            FROM (SELECT id, LEAST(task.run_after, created_at + latest) AS moment FROM queue.tasks_live WHERE id = holder.id) AS due
            WHERE live.id = due.id AND live.status = 'pending' AND live.claimed_until IS NULL
            RETURNING live.id INTO found_id;
            CONTINUE WHEN NOT FOUND; -- it was claimed meanwhile, or has ended
            DELETE FROM queue.task_dependencies d WHERE d.child_id = found_id AND d.parent_id <> ALL (COALESCE(running, '{}'));
            IF cardinality(parents) > 0 THEN
                PERFORM queue.depend_on(ARRAY[found_id], parents, task.tenant_id, policy);
            END IF;
            RETURN found_id;
        END IF;
        SELECT COALESCE(array_agg(h.id), '{}'),
            (SELECT min(s) FROM generate_series(0, 9) AS s WHERE s <> ALL (COALESCE(array_agg(h.unique_slot), '{}')))
        INTO running, task.unique_slot FROM queue.key_holders(task.unique_key, task.tenant_id) h;
        INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, owner_kind, owner_id, metadata, trace_context,
            queue, priority, rank, run_after, is_due, is_waiting, max_attempts, hold_reason, is_watched, batch_id, unique_key, unique_slot, limit_key)
        SELECT task.id, task.task_type, task.payload, task.payload_version, task.tenant_id, task.owner_kind, task.owner_id,
            task.metadata, task.trace_context, task.queue, task.priority, task.rank, task.run_after,
            task.is_due AND cardinality(running) = 0, task.is_waiting OR cardinality(running) > 0, task.max_attempts,
            task.hold_reason, task.is_watched, task.batch_id, task.unique_key, task.unique_slot, task.limit_key
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            IF cardinality(running) > 0 THEN
                PERFORM queue.depend_on(ARRAY[task.id], running, task.tenant_id, 'run');
            END IF;
            IF cardinality(parents) > 0 THEN
                PERFORM queue.depend_on(ARRAY[task.id], parents, task.tenant_id, policy);
            END IF;
            IF task.batch_id IS NOT NULL THEN
                PERFORM queue.join_batch(task.batch_id, task.tenant_id, 1);
            END IF;
            RETURN task.id;
        END IF;
    END LOOP;
END
$$;

-- Enqueue tasks of one type: `payloads` is a JSON array of their payloads. Returns their ids in that order. `options` hold for
-- all: queue, priority, run_after, max_attempts, limit_key, tenant_id, owner_kind, owner_id, metadata, trace_context · unique_key with
-- unique_mode (keep, replace, debounce), debounce_seconds and debounce_latest_seconds · depends_on (a list of ids) with
-- on_parent_failed (fail, cancel, run) · batch_id. Raises GR001 for an unknown type, GR002 for a payload and GR003 for an option
-- that cannot run. `payload_version` says that the caller validated the payloads as that version itself.
CREATE OR REPLACE FUNCTION queue.enqueue_array(task_type text, payloads jsonb, options jsonb DEFAULT '{}', payload_version smallint DEFAULT NULL)
    RETURNS uuid[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted ALIAS FOR task_type;
    version ALIAS FOR payload_version;
    total integer;
    bound uuid;
    due timestamptz;
    is_due boolean;
    is_rung boolean;
    known record;
    tenant uuid;
    type_rank bigint;
    batch uuid;
    parents uuid[] := '{}';
    problem text;
    base text;
    first bigint;
    ids uuid[];
    task queue.tasks_live;
BEGIN
    -- What almost every call is, one checked task without options of an active tenant, is one statement: each more would cost a
    -- third of it. Whatever is not like that finds no row here, and is told apart below.
    IF options = '{}' AND version IS NOT NULL AND jsonb_array_length(payloads) = 1 THEN
        INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, queue, priority, rank, max_attempts,
            limit_key)
        SELECT ops.uuid_v7(), t.name, payloads->0, version, n.id, t.queue, t.priority,
            (extract(epoch FROM now()) * 1000000)::bigint - t.priority * 60000000::bigint, t.max_attempts, t.limit_key
        FROM queue.task_types t CROSS JOIN identity.tenants n
        WHERE t.name = wanted AND t.scope = 'tenant' AND n.status = 'active'
            AND n.id = COALESCE(identity.current_tenant_id(), identity.default_tenant_id())
        RETURNING ARRAY[id], EXISTS (SELECT FROM queue.processes WHERE is_sleeping) INTO ids, is_rung;
        IF is_rung THEN
            PERFORM pg_notify('greenroom_wake', '');
        END IF;
        IF ids IS NOT NULL THEN
            RETURN ids;
        END IF;
    END IF;
    total := jsonb_array_length(payloads);
    bound := identity.current_tenant_id();
    due := now();
    is_due := true;
    base := replace(ops.uuid_v7()::text, '-', '');
    SELECT t.name, t.queue, t.scope, t.priority, t.max_attempts, t.payload_version, t.limit_key, n.status AS tenant_status INTO known
    FROM queue.task_types t LEFT JOIN identity.tenants n
        ON n.id = COALESCE((options->>'tenant_id')::uuid, bound, identity.default_tenant_id()) AND t.scope = 'tenant'
    WHERE t.name = wanted;
    IF NOT FOUND THEN
        SELECT t.name INTO known FROM queue.task_types t WHERE wanted = ANY (t.aliases) LIMIT 1;
        IF FOUND THEN
            RETURN queue.enqueue_array(known.name, payloads, options, version);
        END IF;
        RAISE EXCEPTION 'unknown task type %', wanted USING ERRCODE = 'GR001',
            HINT = 'Known types stand in queue.task_types; `greenroom db migrate` publishes new ones.';
    END IF;
    IF known.scope = 'tenant' THEN
        tenant := COALESCE((options->>'tenant_id')::uuid, bound, identity.default_tenant_id());
    ELSIF options ? 'tenant_id' THEN
        RAISE EXCEPTION 'task type % works across tenants and takes no tenant_id', known.name USING ERRCODE = 'GR003';
    END IF;
    IF tenant IS DISTINCT FROM COALESCE(bound, identity.default_tenant_id()) THEN
        PERFORM queue.check_tenant(tenant);
    END IF;
    IF known.tenant_status IS NULL AND tenant IS NOT NULL THEN
        RAISE EXCEPTION 'unknown tenant %', tenant USING ERRCODE = 'GR003';
    END IF;
    IF version IS NULL THEN
        SELECT queue.payload_error(t, p.payload) INTO problem
        FROM queue.task_types t CROSS JOIN LATERAL jsonb_array_elements(payloads) AS p (payload)
        WHERE t.name = known.name AND queue.payload_error(t, p.payload) IS NOT NULL LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'invalid payload for %: %', known.name, problem USING ERRCODE = 'GR002';
        END IF;
    END IF;
    IF options <> '{}' THEN
        PERFORM queue.check_options(options, total);
        due := queue.due_time(COALESCE((options->>'run_after')::timestamptz,
                                       now() + make_interval(secs => (options->>'debounce_seconds')::float8)));
        known.queue := COALESCE(options->>'queue', known.queue);
        known.priority := COALESCE((options->>'priority')::smallint, known.priority);
        known.max_attempts := COALESCE((options->>'max_attempts')::smallint, known.max_attempts);
        known.limit_key := COALESCE(options->>'limit_key', known.limit_key);
        parents := ARRAY(SELECT DISTINCT jsonb_array_elements_text(options->'depends_on')::uuid);
        batch := options->>'batch_id';
        is_due := due <= now() AND cardinality(parents) = 0;
        task.owner_kind := options->>'owner_kind';
        task.owner_id := options->>'owner_id';
        task.trace_context := options->>'trace_context';
    END IF;
    type_rank := queue.rank_of(due, known.priority);
    -- The ids of one call count up from one UUID v7, within its 62 random bits: making each anew takes a third of an INSERT.
    first := ('x' || substr(base, 17))::bit(64)::bigint & ~(1::bigint << 61);
    ids := ARRAY(SELECT (left(base, 16) || to_hex(first + n))::uuid FROM generate_series(0, total - 1) AS n);
    IF options ? 'unique_key' THEN
        task.id := ids[1];
        task.task_type := known.name;
        task.payload := payloads->0;
        task.payload_version := COALESCE(version, known.payload_version);
        task.tenant_id := tenant;
        task.metadata := COALESCE(options->'metadata', '{}');
        task.queue := known.queue;
        task.priority := known.priority;
        task.limit_key := known.limit_key;
        task.max_attempts := known.max_attempts;
        task.rank := type_rank;
        task.run_after := due;
        task.is_due := is_due;
        task.is_waiting := cardinality(parents) > 0;
        task.hold_reason := queue.tenant_hold_reason(known.tenant_status);
        task.is_watched := batch IS NOT NULL;
        task.batch_id := batch;
        task.unique_key := options->>'unique_key';
        ids := ARRAY[queue.enqueue_keyed(task, options, parents)];
    ELSE
        -- The live leaf itself: through the parent, each row would be routed first.
        INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, owner_kind, owner_id, metadata, trace_context,
            queue, priority, rank, run_after, is_due, is_waiting, max_attempts, hold_reason, is_watched, batch_id,
            limit_key)
        SELECT ids[p.ordinal], known.name, p.payload, COALESCE(version, known.payload_version), tenant, task.owner_kind, task.owner_id,
            COALESCE(options->'metadata', '{}'), task.trace_context, known.queue, known.priority, type_rank, due, is_due,
            cardinality(parents) > 0, known.max_attempts, queue.tenant_hold_reason(known.tenant_status), batch IS NOT NULL, batch,
            known.limit_key
        FROM jsonb_array_elements(payloads) WITH ORDINALITY AS p (payload, ordinal);
        IF cardinality(parents) > 0 THEN
            PERFORM queue.depend_on(ids, parents, tenant, COALESCE(options->>'on_parent_failed', 'fail'));
        END IF;
        IF batch IS NOT NULL THEN
            PERFORM queue.join_batch(batch, tenant, total);
        END IF;
    END IF;
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', '');
    END IF;
    RETURN ids;
END
$$;
