-- Enqueue in bulk and one by one at the cost of the INSERT; keys that replace and debounce; tasks that wait for tasks; batches
-- with callbacks (docs/dependencies.md, docs/decisions/0005-enqueue.md). Processes of the version before must have ended.

-- ---------------------------------------------------------------------------------------------------- bounds

-- The executor parses a table's CHECKs anew for each statement (22 kB of them took 150 µs), but keeps those of a domain for the
-- session. So bounds of one column are domains, and what ties columns together is checked on the leaf where it can be broken.
CREATE DOMAIN queue.short_name AS text CONSTRAINT name_is_1_to_100_characters CHECK (length(VALUE) BETWEEN 1 AND 100);
CREATE DOMAIN queue.key_text AS text CONSTRAINT unique_key_is_1_to_200_characters CHECK (length(VALUE) BETWEEN 1 AND 200);
CREATE DOMAIN queue.large_json AS jsonb CONSTRAINT json_up_to_1_mib CHECK (pg_column_size(VALUE) <= 1048576);
CREATE DOMAIN queue.small_json AS jsonb CONSTRAINT json_up_to_64_kib CHECK (pg_column_size(VALUE) <= 65536);
CREATE DOMAIN queue.priority AS smallint CONSTRAINT priority_is_within_100 CHECK (VALUE BETWEEN -100 AND 100);
CREATE DOMAIN queue.attempt_limit AS smallint CONSTRAINT attempts_allowed_are_1_to_100 CHECK (VALUE BETWEEN 1 AND 100);
CREATE DOMAIN queue.whole_number AS integer CONSTRAINT number_is_not_negative CHECK (VALUE >= 0);
CREATE DOMAIN queue.share AS real CONSTRAINT share_is_0_to_1 CHECK (VALUE BETWEEN 0 AND 1);
CREATE DOMAIN queue.due_at AS timestamptz CONSTRAINT run_after_lies_between_the_years_1970_and_9998
    CHECK (VALUE >= '1970-01-01 00:00+00' AND VALUE < '9999-01-01 00:00+00');
CREATE DOMAIN queue.text_50 AS text CONSTRAINT text_up_to_50_characters CHECK (length(VALUE) <= 50);
CREATE DOMAIN queue.text_512 AS text CONSTRAINT text_up_to_512_characters CHECK (length(VALUE) <= 512);
CREATE DOMAIN queue.text_1000 AS text CONSTRAINT text_up_to_1000_characters CHECK (length(VALUE) <= 1000);
CREATE DOMAIN queue.text_2000 AS text CONSTRAINT text_up_to_2000_characters CHECK (length(VALUE) <= 2000);
CREATE DOMAIN queue.text_10000 AS text CONSTRAINT text_up_to_10000_characters CHECK (length(VALUE) <= 10000);
CREATE DOMAIN queue.text_20000 AS text CONSTRAINT text_up_to_20000_characters CHECK (length(VALUE) <= 20000);

DROP TRIGGER document_follows ON queue.tasks_live;
DROP TRIGGER document_follows ON queue.tasks_history;
ALTER TABLE queue.outbox_tasks
    DROP CONSTRAINT outbox_tasks_task_type_check, DROP CONSTRAINT outbox_tasks_queue_check,
    DROP CONSTRAINT outbox_tasks_unique_key_check, DROP CONSTRAINT outbox_tasks_payload_check,
    DROP CONSTRAINT outbox_tasks_result_check, DROP CONSTRAINT outbox_tasks_metadata_check,
    DROP CONSTRAINT outbox_tasks_priority_check, DROP CONSTRAINT outbox_tasks_max_attempts_check,
    DROP CONSTRAINT outbox_tasks_attempts_check, DROP CONSTRAINT outbox_tasks_snoozes_check,
    DROP CONSTRAINT outbox_tasks_progress_check, DROP CONSTRAINT outbox_tasks_owner_kind_check,
    DROP CONSTRAINT outbox_tasks_trace_context_check, DROP CONSTRAINT outbox_tasks_progress_message_check,
    DROP CONSTRAINT outbox_tasks_hold_reason_check, DROP CONSTRAINT outbox_tasks_last_error_check,
    DROP CONSTRAINT outbox_tasks_cancel_reason_check, DROP CONSTRAINT run_after_is_possible,
    DROP CONSTRAINT pending_is_unleased, DROP CONSTRAINT in_progress_is_leased, DROP CONSTRAINT ended_is_released,
    DROP CONSTRAINT done_has_run, DROP CONSTRAINT failed_says_why, DROP CONSTRAINT held_is_unclaimed,
    DROP CONSTRAINT owner_is_whole, DROP CONSTRAINT cancel_says_why;
ALTER TABLE queue.outbox_tasks
    ALTER task_type TYPE queue.short_name, ALTER queue TYPE queue.short_name, ALTER unique_key TYPE queue.key_text,
    ALTER payload TYPE queue.large_json, ALTER result TYPE queue.large_json, ALTER metadata TYPE queue.small_json,
    ALTER priority TYPE queue.priority, ALTER max_attempts TYPE queue.attempt_limit, ALTER attempts TYPE queue.whole_number,
    ALTER snoozes TYPE queue.whole_number, ALTER progress TYPE queue.share, ALTER run_after TYPE queue.due_at,
    ALTER owner_kind TYPE queue.text_50, ALTER trace_context TYPE queue.text_512, ALTER progress_message TYPE queue.text_1000,
    ALTER hold_reason TYPE queue.text_2000, ALTER last_error TYPE queue.text_20000, ALTER cancel_reason TYPE queue.text_10000,
    -- waits for other tasks to end: neither due nor deferred
    ADD COLUMN is_waiting boolean NOT NULL DEFAULT false,
    -- others wait for its end, or its batch counts it: the end leaves a row in queue.settlements
    ADD COLUMN is_watched boolean NOT NULL DEFAULT false,
    ADD COLUMN batch_id uuid,
    -- a key's running task and the one that waits behind it stand in two slots
    ADD COLUMN unique_slot smallint NOT NULL DEFAULT 0;

ALTER TABLE queue.tasks_live
    ADD CONSTRAINT pending_is_unleased CHECK
        (status <> 'pending' OR num_nonnulls(lease_until, deadline_at, worker_id, completed_at) = 0),
    ADD CONSTRAINT in_progress_is_leased CHECK
        (status = 'pending' OR (num_nulls(lease_until, deadline_at, worker_id, started_at, claimed_until) = 0
            AND completed_at IS NULL AND attempts > 0 AND NOT is_waiting)),
    ADD CONSTRAINT held_is_unclaimed CHECK (hold_reason IS NULL OR claimed_until IS NULL),
    ADD CONSTRAINT waiting_is_not_due CHECK (NOT (is_waiting AND (is_due OR claimed_until IS NOT NULL))),
    ADD CONSTRAINT owner_is_whole CHECK ((owner_kind IS NULL) = (owner_id IS NULL)),
    ADD CONSTRAINT cancel_says_why CHECK ((cancel_requested_at IS NULL) = (cancel_reason IS NULL));
ALTER TABLE queue.tasks_history
    ADD CONSTRAINT ended_is_released CHECK (num_nonnulls(lease_until, claimed_until, hold_reason) = 0),
    ADD CONSTRAINT done_has_run CHECK (status <> 'done' OR (started_at IS NOT NULL AND failed_at IS NULL)),
    ADD CONSTRAINT failed_says_why CHECK (status <> 'failed' OR num_nulls(failed_at, last_error) = 0);

CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_live FOR EACH ROW
    WHEN (NEW.owner_kind = 'document') EXECUTE FUNCTION knowledge.follow_task();
CREATE TRIGGER document_follows AFTER INSERT ON queue.tasks_history FOR EACH ROW
    WHEN (NEW.owner_kind = 'document' AND NEW.status IN ('failed', 'cancelled')) EXECUTE FUNCTION knowledge.follow_task();

-- By key first: whoever looks for a key's holder knows the key, and the tenant may be none.
DROP INDEX queue.tasks_live_unique_key;
CREATE UNIQUE INDEX tasks_live_unique_key ON queue.tasks_live (unique_key, tenant_id, unique_slot) NULLS NOT DISTINCT
    WHERE unique_key IS NOT NULL;
-- Tasks that wait for tasks are not deferred: no clock makes them due.
DROP INDEX queue.tasks_live_deferred_idx;
CREATE INDEX tasks_live_deferred_idx ON queue.tasks_live (run_after) WHERE NOT is_due AND NOT is_waiting;
CREATE INDEX tasks_live_waiting_idx ON queue.tasks_live (id) WHERE is_waiting;

-- Create the partition of `parent` for the month of `moment`, if it is missing. Created apart and attached: PARTITION
-- OF would lock the parent against claims; the CHECKs spare ATTACH its scan and go again, since each costs each statement.
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
    EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT within_month, DROP CONSTRAINT IF EXISTS is_ended', leaf);
    RETURN leaf;
END
$$;
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid FROM pg_inherits
                WHERE inhparent IN ('queue.tasks_history'::regclass, 'queue.attempts'::regclass) LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS within_month, DROP CONSTRAINT IF EXISTS is_ended', leaf);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- tables

-- Which task waits for which. Written with the child and never after, so a parent is older than its child: no circle.
-- `parent_status` is how the parent ended; `unknown`: its history was gone when that was looked for.
CREATE TABLE queue.task_dependencies (
    child_id uuid NOT NULL,
    parent_id uuid NOT NULL,
    tenant_id uuid,
    on_parent_failed text NOT NULL CHECK (on_parent_failed IN ('fail', 'cancel', 'run')),
    parent_status text CHECK (parent_status IN ('done', 'failed', 'cancelled', 'unknown')),
    PRIMARY KEY (child_id, parent_id),
    CONSTRAINT nothing_waits_for_itself CHECK (child_id <> parent_id)
) WITH (fillfactor = 80);
CREATE INDEX task_dependencies_parent_id_idx ON queue.task_dependencies (parent_id);

-- Tasks that belong together. `on_…` are the tasks that are enqueued for it: {"task_type": …, "payload": …}.
-- The counters follow the members within moments; nobody who ends a task writes here.
CREATE TABLE queue.batches (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    tenant_id uuid,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    on_done jsonb CHECK (pg_column_size(on_done) <= 1048576),
    on_failed jsonb CHECK (pg_column_size(on_failed) <= 1048576),
    on_ended jsonb CHECK (pg_column_size(on_ended) <= 1048576),
    on_done_task_id uuid,
    on_failed_task_id uuid,
    on_ended_task_id uuid,
    added integer NOT NULL DEFAULT 0,
    done integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT ended_is_closed CHECK (ended_at IS NULL OR (closed_at IS NOT NULL AND done + failed + cancelled = added))
) WITH (fillfactor = 70);
CREATE INDEX batches_tenant_id_idx ON queue.batches (tenant_id);

-- What a relay has to look after: a task whose end others wait for or that its batch counts, tasks that were added to a
-- batch, a batch that was closed. Rows live for moments.
CREATE TABLE queue.settlements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id uuid,
    batch_id uuid,
    added integer NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX settlements_added_idx ON queue.settlements (batch_id) WHERE added > 0;

-- Whoever ends a watched task, by whatever statement, leaves word.
CREATE FUNCTION queue.note_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO queue.settlements (task_id, batch_id) VALUES (OLD.id, OLD.batch_id);
    PERFORM queue.ring_sleepers();
    RETURN NULL;
END
$$;
CREATE TRIGGER note_end AFTER DELETE ON queue.tasks_live FOR EACH ROW WHEN (OLD.is_watched)
    EXECUTE FUNCTION queue.note_end();

-- Ring only when a relay sleeps: NOTIFY takes a lock of the whole database at commit and would serialise producers.
CREATE FUNCTION queue.ring_sleepers() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', '');
    END IF;
END
$$;

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
CREATE FUNCTION queue.check_options(options jsonb, total integer) RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown jsonb := options - ARRAY['queue', 'priority', 'run_after', 'unique_key', 'unique_mode', 'debounce_seconds',
        'debounce_latest_seconds', 'max_attempts', 'tenant_id', 'owner_kind', 'owner_id', 'metadata', 'trace_context', 'depends_on',
        'on_parent_failed', 'batch_id'];
    mode text := COALESCE(options->>'unique_mode', 'keep');
    problem text;
BEGIN
    problem := CASE
        WHEN unknown <> '{}' THEN
            'unknown option ' || (SELECT string_agg(key, ', ') FROM jsonb_object_keys(unknown) AS key)
        WHEN options ? 'unique_key' AND total <> 1 THEN format('a unique_key names one task, not %s', total)
        WHEN length(options->>'unique_key') NOT BETWEEN 1 AND 200 THEN
            format('a unique_key has 1 to 200 characters, not %s: use a hash of what is longer', length(options->>'unique_key'))
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

-- Whether the caller may write tasks of that tenant. What calls it runs as the owner, so it binds the caller to its tenant
-- itself, as row security would.
CREATE FUNCTION queue.check_tenant(tenant uuid) RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound uuid := identity.current_tenant_id();
BEGIN
    IF bound <> tenant OR tenant IS DISTINCT FROM COALESCE(bound, identity.default_tenant_id())
        AND pg_has_role(session_user, 'greenroom_producer', 'USAGE')
        AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
        RAISE EXCEPTION 'this transaction is not bound to the tenant of the task' USING ERRCODE = 'GR003',
            HINT = 'Set app.current_tenant_id for the transaction; tasks of scope system are not for producers.';
    END IF;
END
$$;

-- Let each child wait for all parents. Locks nothing: a parent may end at the same moment, which the relay finds out.
CREATE FUNCTION queue.depend_on(children uuid[], parents uuid[], tenant uuid, policy text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing uuid;
BEGIN
    SELECT p.id INTO missing FROM unnest(parents) AS p (id)
    WHERE NOT EXISTS (SELECT FROM queue.tasks_live t WHERE t.id = p.id AND (tenant IS NULL OR t.tenant_id = tenant))
        AND NOT EXISTS (SELECT FROM queue.tasks_history t WHERE t.id = p.id AND (tenant IS NULL OR t.tenant_id = tenant)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'depends_on names a task that does not exist: %', missing USING ERRCODE = 'GR003',
            HINT = 'A task waits for tasks of its own tenant, live ones or ended ones that history still has.';
    END IF;
    INSERT INTO queue.task_dependencies (child_id, parent_id, tenant_id, on_parent_failed)
    SELECT c.id, p.id, tenant, policy FROM unnest(children) AS c (id), unnest(parents) AS p (id) ON CONFLICT DO NOTHING;
    INSERT INTO queue.settlements (task_id) SELECT DISTINCT p.id FROM unnest(parents) AS p (id);
END
$$;

-- Say that a batch has `total` members more. Its row is locked against being closed, and against nothing else.
CREATE FUNCTION queue.join_batch(batch uuid, tenant uuid, total integer) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    closed timestamptz;
BEGIN
    SELECT b.closed_at INTO closed FROM queue.batches b
    WHERE b.id = batch AND b.tenant_id IS NOT DISTINCT FROM tenant FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no batch has the id %', batch USING ERRCODE = 'GR003', HINT = 'A batch takes tasks of its own tenant.';
    ELSIF closed IS NOT NULL THEN
        RAISE EXCEPTION 'the batch % is closed', batch USING ERRCODE = 'GR003', HINT = 'Open another for what comes later.';
    END IF;
    INSERT INTO queue.settlements (batch_id, added) VALUES (batch, total);
END
$$;

-- The live tasks that hold a key: at most one that waits and can be replaced, and at most one that is on its way or runs.
CREATE FUNCTION queue.key_holders(key text, tenant uuid) RETURNS TABLE (id uuid, unique_slot smallint, is_replaceable boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT id, unique_slot, status = 'pending' AND claimed_until IS NULL FROM queue.tasks_live
    WHERE unique_key = key AND (tenant_id = tenant OR tenant IS NULL AND tenant_id IS NULL)
$$;

-- Refuse that `child` waits for `parents` if one of them waits for it (GR003). Only a task that was there before, and takes on
-- dependencies by being replaced, can close a circle; such replacements go one after the other.
CREATE FUNCTION queue.check_circle(child uuid, parents uuid[]) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7216335408823);
    IF child = ANY (parents) THEN
        RAISE EXCEPTION 'the task % would wait for itself', child USING ERRCODE = 'GR003';
    END IF;
    IF EXISTS (
        WITH RECURSIVE above (id) AS (
            SELECT unnest(parents)
            UNION
            SELECT d.parent_id FROM above JOIN queue.task_dependencies d ON d.child_id = above.id AND d.parent_status IS NULL
        )
        SELECT FROM above WHERE id = child
    ) THEN
        RAISE EXCEPTION 'the task % would wait for itself in a circle', child USING ERRCODE = 'GR003';
    END IF;
END
$$;

-- Enqueue one task under its unique key, which may mean that a live task stays (keep) or takes the new one's place (replace,
-- debounce). One that runs, or is on its way to a worker, is left alone: what replaces it waits until it has ended, however.
CREATE FUNCTION queue.enqueue_keyed(task queue.tasks_live, options jsonb, parents uuid[]) RETURNS uuid LANGUAGE plpgsql
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
                queue = task.queue, priority = task.priority, max_attempts = task.max_attempts, hold_reason = task.hold_reason,
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
            queue, priority, rank, run_after, is_due, is_waiting, max_attempts, hold_reason, is_watched, batch_id, unique_key, unique_slot)
        SELECT task.id, task.task_type, task.payload, task.payload_version, task.tenant_id, task.owner_kind, task.owner_id,
            task.metadata, task.trace_context, task.queue, task.priority, task.rank, task.run_after,
            task.is_due AND cardinality(running) = 0, task.is_waiting OR cardinality(running) > 0, task.max_attempts,
            task.hold_reason, task.is_watched, task.batch_id, task.unique_key, task.unique_slot
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
-- all: queue, priority, run_after, max_attempts, tenant_id, owner_kind, owner_id, metadata, trace_context · unique_key with
-- unique_mode (keep, replace, debounce), debounce_seconds and debounce_latest_seconds · depends_on (a list of ids) with
-- on_parent_failed (fail, cancel, run) · batch_id. Raises GR001 for an unknown type, GR002 for a payload and GR003 for an option
-- that cannot run. `payload_version` says that the caller validated the payloads as that version itself.
CREATE FUNCTION queue.enqueue_array(task_type text, payloads jsonb, options jsonb DEFAULT '{}', payload_version smallint DEFAULT NULL)
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
        INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, queue, priority, rank, max_attempts)
        SELECT ops.uuid_v7(), t.name, payloads->0, version, n.id, t.queue, t.priority,
            (extract(epoch FROM now()) * 1000000)::bigint - t.priority * 60000000::bigint, t.max_attempts
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
    SELECT t.name, t.queue, t.scope, t.priority, t.max_attempts, t.payload_version, n.status AS tenant_status INTO known
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
            queue, priority, rank, run_after, is_due, is_waiting, max_attempts, hold_reason, is_watched, batch_id)
        SELECT ids[p.ordinal], known.name, p.payload, COALESCE(version, known.payload_version), tenant, task.owner_kind, task.owner_id,
            COALESCE(options->'metadata', '{}'), task.trace_context, known.queue, known.priority, type_rank, due, is_due,
            cardinality(parents) > 0, known.max_attempts, queue.tenant_hold_reason(known.tenant_status), batch IS NOT NULL, batch
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

-- Enqueue tasks of one type from an array of payloads; see queue.enqueue_array.
CREATE OR REPLACE FUNCTION queue.enqueue_many(task_type text, payloads jsonb[], options jsonb DEFAULT '{}', payload_version smallint DEFAULT NULL)
    RETURNS SETOF uuid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT unnest(queue.enqueue_array(task_type, to_jsonb(payloads), options, payload_version))
$$;

-- Enqueue one task; see queue.enqueue_array. With a unique_key whose live task another transaction has not committed yet,
-- waits for it.
CREATE OR REPLACE FUNCTION queue.enqueue(task_type text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT (queue.enqueue_array(task_type, jsonb_build_array(payload), options))[1]
$$;

-- ---------------------------------------------------------------------------------------------------- batches

-- Open a batch. `callbacks`: on_done (all members are done), on_failed (the first failed or was cancelled), on_ended (all have
-- ended), each {"task_type": …, "payload": …}, which are checked as an enqueue checks them. `tenant_id` as in an enqueue.
CREATE FUNCTION queue.open_batch(name text, callbacks jsonb DEFAULT '{}', tenant_id uuid DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := COALESCE(open_batch.tenant_id, identity.current_tenant_id(), identity.default_tenant_id());
    event text;
    callback jsonb;
    known queue.task_types;
    problem text;
    made uuid;
BEGIN
    PERFORM queue.check_tenant(tenant);
    IF queue.tenant_status(tenant) IS NULL THEN
        RAISE EXCEPTION 'unknown tenant %', tenant USING ERRCODE = 'GR003';
    END IF;
    IF length(name) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'a batch''s name has 1 to 200 characters' USING ERRCODE = 'GR003';
    END IF;
    FOR event, callback IN SELECT * FROM jsonb_each(callbacks) LOOP
        IF event NOT IN ('on_done', 'on_failed', 'on_ended') THEN
            RAISE EXCEPTION 'unknown callback %: known are on_done, on_failed and on_ended', event USING ERRCODE = 'GR003';
        END IF;
        known := queue.task_type(callback->>'task_type');
        IF known.name IS NULL THEN
            RAISE EXCEPTION 'unknown task type %', callback->>'task_type' USING ERRCODE = 'GR001';
        END IF;
        problem := queue.payload_error(known, callback->'payload');
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION 'invalid payload for %: %', known.name, problem USING ERRCODE = 'GR002';
        END IF;
    END LOOP;
    INSERT INTO queue.batches (tenant_id, name, on_done, on_failed, on_ended)
    VALUES (tenant, name, callbacks->'on_done', callbacks->'on_failed', callbacks->'on_ended') RETURNING id INTO made;
    RETURN made;
END
$$;

-- Close a batch: it takes no more tasks, and ends with its last member. Waits for whoever is adding to it. False: it was closed.
CREATE FUNCTION queue.close_batch(batch uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held queue.batches;
BEGIN
    SELECT * INTO held FROM queue.batches b WHERE b.id = batch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no batch has the id %', batch USING ERRCODE = 'GR003', HINT = 'A batch takes tasks of its own tenant.';
    END IF;
    PERFORM queue.check_tenant(held.tenant_id);
    IF held.closed_at IS NOT NULL THEN
        RETURN false;
    END IF;
    UPDATE queue.batches SET closed_at = now() WHERE id = batch;
    INSERT INTO queue.settlements (batch_id) VALUES (batch);
    PERFORM queue.ring_sleepers();
    RETURN true;
END
$$;

-- Enqueue the callbacks of a batch that have become due, each once: the caller's transaction holds the batch's row. A callback
-- whose type is gone by now is held like any foreign INSERT. Returns how many.
CREATE FUNCTION queue.call_back(batch uuid) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held queue.batches;
    has_ended boolean;
    called integer := 0;
BEGIN
    SELECT * INTO held FROM queue.batches b WHERE b.id = batch AND b.ended_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- Closed, no member can come; but those that came may not be counted yet.
    has_ended := held.closed_at IS NOT NULL AND held.done + held.failed + held.cancelled = held.added
        AND NOT EXISTS (SELECT FROM queue.settlements s WHERE s.batch_id = batch AND s.added > 0);
    IF held.on_failed IS NOT NULL AND held.on_failed_task_id IS NULL AND held.failed + held.cancelled > 0 THEN
        held.on_failed_task_id := queue.insert_callback(held, held.on_failed);
        called := called + 1;
    END IF;
    IF has_ended AND held.on_done IS NOT NULL AND held.done = held.added THEN
        held.on_done_task_id := queue.insert_callback(held, held.on_done);
        called := called + 1;
    END IF;
    IF has_ended AND held.on_ended IS NOT NULL THEN
        held.on_ended_task_id := queue.insert_callback(held, held.on_ended);
        called := called + 1;
    END IF;
    UPDATE queue.batches SET on_failed_task_id = held.on_failed_task_id, on_done_task_id = held.on_done_task_id,
        on_ended_task_id = held.on_ended_task_id, ended_at = CASE WHEN has_ended THEN now() END
    WHERE id = batch AND (has_ended OR called > 0);
    RETURN called;
END
$$;

CREATE FUNCTION queue.insert_callback(batch queue.batches, callback jsonb) RETURNS uuid LANGUAGE sql
    SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id, metadata)
    VALUES (callback->>'task_type', callback->'payload', batch.tenant_id,
            jsonb_build_object('batch_id', batch.id, 'batch_name', batch.name))
    RETURNING id
$$;

-- ---------------------------------------------------------------------------------------------------- row security and grants

DO $$
DECLARE
    relation regclass;
    bound text := 'tenant_id = (SELECT identity.current_tenant_id())';
    unbound text := '(SELECT identity.current_tenant_id()) IS NULL';
    own text := 'tenant_id = (SELECT COALESCE(identity.current_tenant_id(), identity.default_tenant_id()))';
BEGIN
    FOREACH relation IN ARRAY ARRAY['queue.task_dependencies', 'queue.batches']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY engine_passes ON %s TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_producer USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY reader_passes ON %s FOR SELECT TO greenroom_reader USING (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_worker, greenroom_operator, greenroom_reader USING (%s OR %s) WITH CHECK (%s OR %s)', relation, bound, unbound, bound, unbound);
        EXECUTE format('CREATE POLICY producer_binds ON %s AS RESTRICTIVE TO greenroom_producer USING (%s) WITH CHECK (%s)', relation, own, own);
    END LOOP;
END
$$;

GRANT SELECT ON queue.task_dependencies, queue.batches
    TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_producer, greenroom_operator, greenroom_reader;
GRANT UPDATE, DELETE ON queue.task_dependencies TO greenroom_relay;
-- A replay lets its tasks wait for their parents again.
GRANT UPDATE ON queue.task_dependencies TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT UPDATE ON queue.batches TO greenroom_relay;
GRANT SELECT, INSERT, DELETE ON queue.settlements TO greenroom_relay;
GRANT INSERT ON queue.settlements TO greenroom_worker, greenroom_system, greenroom_operator;

REVOKE EXECUTE ON FUNCTION queue.note_end, queue.enqueue_array, queue.open_batch, queue.close_batch, queue.call_back FROM PUBLIC;
GRANT EXECUTE ON FUNCTION queue.enqueue_array, queue.open_batch, queue.close_batch
    TO greenroom_producer, greenroom_worker, greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION queue.call_back TO greenroom_relay;
