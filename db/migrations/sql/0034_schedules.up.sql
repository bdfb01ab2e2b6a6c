-- Recurring work: what is enqueued when, and each time that it was, or why it was not.

CREATE TABLE queue.schedules (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    name text NOT NULL,
    tenant_id uuid,
    task_type text NOT NULL,
    payload jsonb DEFAULT '{}' NOT NULL,
    queue text,
    priority smallint,
    cron text,
    every_seconds integer,
    at timestamptz,
    zone text DEFAULT 'UTC' NOT NULL,
    gap text DEFAULT 'shift' NOT NULL,
    fold text DEFAULT 'first' NOT NULL,
    starts_at timestamptz,
    ends_at timestamptz,
    jitter_seconds double precision DEFAULT 0 NOT NULL,
    missed text DEFAULT 'once' NOT NULL,
    missed_limit integer DEFAULT 10 NOT NULL,
    overlap text DEFAULT 'skip' NOT NULL,
    paused_at timestamptz,
    next_fire_at timestamptz DEFAULT now(),
    last_fire_at timestamptz,
    settled_at timestamptz DEFAULT now() NOT NULL,
    source text DEFAULT 'operator' NOT NULL,
    declared jsonb,
    is_edited boolean DEFAULT false NOT NULL,
    removed_at timestamptz,
    description text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT schedules_pkey PRIMARY KEY (id),
    CONSTRAINT schedules_name_key UNIQUE (name),
    CONSTRAINT schedules_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT schedules_one_trigger_check CHECK (num_nonnulls(cron, every_seconds, at) = 1),
    CONSTRAINT schedules_code_declares_check CHECK ((source = 'code') = (declared IS NOT NULL)),
    CONSTRAINT schedules_code_is_edited_check CHECK (NOT is_edited OR source = 'code'),
    CONSTRAINT schedules_code_is_removed_check CHECK (removed_at IS NULL OR source = 'code'),
    CONSTRAINT schedules_name_check CHECK (length(name) BETWEEN 1 AND 100),
    CONSTRAINT schedules_task_type_check CHECK (length(task_type) BETWEEN 1 AND 100),
    CONSTRAINT schedules_payload_check CHECK (jsonb_typeof(payload) = 'object' AND pg_column_size(payload) <= 65536),
    CONSTRAINT schedules_queue_check CHECK (length(queue) BETWEEN 1 AND 100),
    CONSTRAINT schedules_priority_check CHECK (priority >= '-100'::integer AND priority <= 100),
    CONSTRAINT schedules_cron_check CHECK (length(cron) BETWEEN 1 AND 1000),
    CONSTRAINT schedules_every_seconds_check CHECK (every_seconds >= 1 AND every_seconds <= 315576000),
    CONSTRAINT schedules_at_check CHECK (at >= '0002-01-01 00:00+00' AND at < '9999-01-01 00:00+00'),
    CONSTRAINT schedules_zone_check CHECK (length(zone) BETWEEN 1 AND 100),
    CONSTRAINT schedules_gap_check CHECK (gap IN ('shift', 'skip')),
    CONSTRAINT schedules_fold_check CHECK (fold IN ('first', 'second', 'both')),
    CONSTRAINT schedules_starts_at_check CHECK (starts_at >= '0002-01-01 00:00+00' AND starts_at < '9999-01-01 00:00+00'),
    CONSTRAINT schedules_ends_at_check CHECK (ends_at >= '0002-01-01 00:00+00' AND ends_at < '9999-01-01 00:00+00'),
    CONSTRAINT schedules_ends_after_start_check CHECK (ends_at >= starts_at),
    CONSTRAINT schedules_jitter_seconds_check CHECK (jitter_seconds >= 0 AND jitter_seconds <= 86400),
    CONSTRAINT schedules_missed_check CHECK (missed IN ('skip', 'once', 'all')),
    CONSTRAINT schedules_missed_limit_check CHECK (missed_limit >= 1 AND missed_limit <= 1000),
    CONSTRAINT schedules_overlap_check CHECK (overlap IN ('allow', 'skip', 'wait')),
    CONSTRAINT schedules_next_fire_at_check CHECK (next_fire_at >= '0002-01-01 00:00+00' AND next_fire_at < '9999-01-01 00:00+00'),
    CONSTRAINT schedules_source_check CHECK (source IN ('code', 'operator')),
    CONSTRAINT schedules_declared_check CHECK (jsonb_typeof(declared) = 'object'),
    CONSTRAINT schedules_description_check CHECK (length(description) <= 2000)
);
CREATE INDEX schedules_tenant_id_idx ON queue.schedules (tenant_id);
CREATE INDEX schedules_next_fire_at_idx ON queue.schedules (next_fire_at) WHERE paused_at IS NULL AND removed_at IS NULL;
COMMENT ON TABLE queue.schedules IS 'What is enqueued again and again, and when: by a cron expression, at an interval, or at one moment.';
COMMENT ON COLUMN queue.schedules.tenant_id IS 'Whose task it is; NULL: a task across tenants, or the default tenant''s';
COMMENT ON COLUMN queue.schedules.queue IS 'NULL: the task type''s, like the priority';
COMMENT ON COLUMN queue.schedules.cron IS 'Five fields, or six with seconds first, or @daily and the like, in the zone';
COMMENT ON COLUMN queue.schedules.every_seconds IS 'From starts_at on, or from created_at';
COMMENT ON COLUMN queue.schedules.zone IS 'Of the IANA database';
COMMENT ON COLUMN queue.schedules.gap IS 'What becomes of a time that does not exist: it comes after the gap, or not at all';
COMMENT ON COLUMN queue.schedules.fold IS 'Which of a time that exists twice counts';
COMMENT ON COLUMN queue.schedules.starts_at IS 'No fire before; ends_at: none after';
COMMENT ON COLUMN queue.schedules.jitter_seconds IS 'Up to this much later each task is due, by chance';
COMMENT ON COLUMN queue.schedules.missed IS 'What becomes of fires that nobody was there for: none, the last, or the last missed_limit of them';
COMMENT ON COLUMN queue.schedules.overlap IS 'What becomes of a fire while a task of the schedule lives: as ever, none, or a task that waits';
COMMENT ON COLUMN queue.schedules.next_fire_at IS 'When to look again; no later than settled_at: it was changed since; NULL: there is none any more';
COMMENT ON COLUMN queue.schedules.last_fire_at IS 'The time that the last fire was for';
COMMENT ON COLUMN queue.schedules.settled_at IS 'Fires are settled up to here, by Postgres'' clock';
COMMENT ON COLUMN queue.schedules.source IS 'Who wants it: a task module''s SCHEDULES, or an operator';
COMMENT ON COLUMN queue.schedules.declared IS 'What the code says of it, whatever an operator made of it';
COMMENT ON COLUMN queue.schedules.is_edited IS 'By an operator: what the code says is not taken over any more';
COMMENT ON COLUMN queue.schedules.removed_at IS 'By an operator: it does not come back as long as the code declares it';
-- Of what it is, not of each fire.
CREATE TRIGGER touch BEFORE UPDATE OF name, tenant_id, task_type, payload, queue, priority, cron, every_seconds, at, zone, gap, fold,
    starts_at, ends_at, jitter_seconds, missed, missed_limit, overlap, paused_at, source, declared, is_edited, removed_at, description
    ON queue.schedules FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE queue.fires (
    schedule_id uuid NOT NULL,
    fire_at timestamptz NOT NULL,
    fired_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    outcome text NOT NULL,
    task_id uuid,
    is_manual boolean DEFAULT false NOT NULL,
    missed_count integer DEFAULT 0 NOT NULL,
    error text,
    CONSTRAINT fires_pkey PRIMARY KEY (schedule_id, fire_at),
    CONSTRAINT fires_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES queue.schedules (id) ON DELETE CASCADE,
    CONSTRAINT fires_outcome_has_task_check CHECK ((outcome = 'enqueued') = (task_id IS NOT NULL)),
    CONSTRAINT fires_outcome_says_why_check CHECK (outcome <> 'refused' OR error IS NOT NULL),
    CONSTRAINT fires_outcome_check CHECK (outcome IN ('enqueued', 'missed', 'overlapped', 'refused')),
    CONSTRAINT fires_missed_count_check CHECK (missed_count >= 0),
    CONSTRAINT fires_error_check CHECK (length(error) <= 2000)
);
CREATE INDEX fires_fire_at_idx ON queue.fires (fire_at);
COMMENT ON TABLE queue.fires IS 'A time that a schedule was to fire at, once: the task that came of it, or why none did.';
COMMENT ON COLUMN queue.fires.fire_at IS 'The nominal time, without jitter; of one by hand, when it was asked for';
COMMENT ON COLUMN queue.fires.fired_at IS 'When it was settled, by Postgres'' clock';
COMMENT ON COLUMN queue.fires.task_id IS 'The task that it enqueued, there or gone';
COMMENT ON COLUMN queue.fires.is_manual IS 'By an operator, whatever the time';
COMMENT ON COLUMN queue.fires.missed_count IS 'Times before it that were missed and have no row';
COMMENT ON COLUMN queue.fires.error IS 'Why it was refused, or why its task is held';

-- ---------------------------------------------------------------------------------------------------- row security and grants

-- A bound transaction knows its tenant's schedules. What is of no tenant is the operator's, with none bound; a scheduler fires all.
DO $$
DECLARE
    relation regclass;
    ours text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['queue.schedules', 'queue.fires']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_scheduler, greenroom_operator, greenroom_reader '
            'USING (true) WITH CHECK (true)', relation);
        ours := '(SELECT identity.current_tenant_id()) IS NULL OR ' || CASE relation WHEN 'queue.schedules'::regclass
            THEN 'tenant_id = (SELECT identity.current_tenant_id())'
            ELSE 'EXISTS (SELECT FROM queue.schedules s WHERE s.id = schedule_id)' END;
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_operator, greenroom_reader USING (%s) '
            'WITH CHECK (%s)', relation, ours, ours);
    END LOOP;
END
$$;
GRANT SELECT ON queue.schedules, queue.fires TO greenroom_scheduler, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON queue.schedules TO greenroom_operator;
GRANT INSERT ON queue.fires TO greenroom_operator;

-- A scheduler settles fires, says that it lives, enqueues, and sees which tasks of a schedule live; one that cannot run it adds held.
GRANT USAGE ON SCHEMA queue, identity TO greenroom_scheduler;
GRANT UPDATE (next_fire_at, last_fire_at, settled_at) ON queue.schedules TO greenroom_scheduler;
GRANT INSERT, UPDATE, DELETE ON queue.fires TO greenroom_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON queue.processes TO greenroom_scheduler;
GRANT EXECUTE ON FUNCTION queue.enqueue_array TO greenroom_scheduler;
CREATE POLICY scheduler_looks ON queue.tasks_live FOR SELECT TO greenroom_scheduler USING (owner_kind = 'schedule');
GRANT SELECT (id, status, owner_kind, owner_id, hold_reason) ON queue.tasks_live TO greenroom_scheduler;
CREATE POLICY scheduler_looks ON queue.outbox_tasks FOR SELECT TO greenroom_scheduler USING (owner_kind = 'schedule');
CREATE POLICY scheduler_adds ON queue.outbox_tasks FOR INSERT TO greenroom_scheduler WITH CHECK (owner_kind = 'schedule');
GRANT SELECT (id, owner_kind, owner_id) ON queue.outbox_tasks TO greenroom_scheduler;
GRANT INSERT (task_type, payload, tenant_id, owner_kind, owner_id, metadata, queue, priority, run_after) ON queue.outbox_tasks
    TO greenroom_scheduler;
