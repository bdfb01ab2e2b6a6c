-- The data model: care of the installation. Personas' health and its roll-up, retention, backups; the designs' health check and views.
-- And what the queue's tables and columns are, said in the database.

-- ---------------------------------------------------------------------------------------------------- the queue

COMMENT ON TABLE queue.limits IS 'A limit on one queue, task type, tenant or key, or on each of them by itself (`*`); a pause is one too.';
COMMENT ON COLUMN queue.limits.concurrency IS 'Tasks claimed or in progress at once';
COMMENT ON COLUMN queue.limits.rate IS 'Claims in each rate_seconds';
COMMENT ON COLUMN queue.limits.burst IS 'Claims that may come at once after a rest';
COMMENT ON COLUMN queue.limits.paused_until IS 'A provider has refused: nothing is claimed before';
COMMENT ON TABLE queue.limit_tokens IS 'The bucket of tokens of what a rate holds for; one that is not here is full.';
COMMENT ON TABLE queue.task_types IS 'What tasks of a type default to; published by migrations and workers, read by every enqueue.';
COMMENT ON COLUMN queue.task_types.scope IS 'Of one tenant each, or across tenants';
COMMENT ON COLUMN queue.task_types.batch_size IS 'Most tasks of a message';
COMMENT ON COLUMN queue.task_types.time_limit IS 'Of an attempt';
COMMENT ON COLUMN queue.task_types.payload_schema IS 'JSON Schema';
COMMENT ON COLUMN queue.task_types.secret_fields IS 'Of the payload: nobody is shown them';
COMMENT ON COLUMN queue.task_types.aliases IS 'Names that it had before';
COMMENT ON COLUMN queue.task_types.limit_key IS 'What a limit goes by, such as a provider';
COMMENT ON TABLE queue.queues IS 'A queue that an operator has spoken of: a pause, and when it ends by itself.';
COMMENT ON COLUMN queue.queues.resume_at IS 'When the pause ends by itself';
COMMENT ON TABLE queue.processes IS 'A process that serves here: what it does, and when it was last heard of.';
COMMENT ON COLUMN queue.processes.id IS 'New for each start: a host''s name never proves liveness';
COMMENT ON COLUMN queue.processes.task_types IS 'The payload version known of each';
COMMENT ON COLUMN queue.processes.batch_sizes IS 'Tasks taken in one message, by type as measured';
COMMENT ON COLUMN queue.processes.loops_late IS 'Seconds that each loop is behind';
COMMENT ON TABLE queue.outbox_tasks IS 'A task, in whatever status: live ones stand in tasks_live, ended ones in tasks_history by months.';
COMMENT ON COLUMN queue.outbox_tasks.id IS 'Unique among live tasks, and never given twice';
COMMENT ON COLUMN queue.outbox_tasks.payload_version IS 'Of the schema that the payload was checked by';
COMMENT ON COLUMN queue.outbox_tasks.status IS 'pending, in_progress, done, failed or cancelled';
COMMENT ON COLUMN queue.outbox_tasks.completed_at IS 'When it ended, in whatever way';
COMMENT ON COLUMN queue.outbox_tasks.tenant_id IS 'None: a task across tenants';
COMMENT ON COLUMN queue.outbox_tasks.owner_kind IS 'What the task is for, such as a document';
COMMENT ON COLUMN queue.outbox_tasks.priority IS 'Each step is worth a minute of waiting';
COMMENT ON COLUMN queue.outbox_tasks.rank IS 'What the claim orders by: microseconds of the due time, less the priority';
COMMENT ON COLUMN queue.outbox_tasks.is_waiting IS 'For other tasks to end';
COMMENT ON COLUMN queue.outbox_tasks.is_watched IS 'Others wait for its end, or its batch counts it';
COMMENT ON COLUMN queue.outbox_tasks.hold_reason IS 'Why it is not claimed, though due';
COMMENT ON COLUMN queue.outbox_tasks.unique_key IS 'Unique among the tenant''s live tasks of a slot';
COMMENT ON COLUMN queue.outbox_tasks.unique_slot IS 'A key''s running task and the one behind it';
COMMENT ON COLUMN queue.outbox_tasks.limit_key IS 'What a limit goes by, such as a provider';
COMMENT ON COLUMN queue.outbox_tasks.left_open IS 'What the type is to say once it is published';
COMMENT ON COLUMN queue.outbox_tasks.claimed_until IS 'Set while the task occupies a part of a slot';
COMMENT ON COLUMN queue.outbox_tasks.batch_size IS 'Of how many tasks its message may hold';
COMMENT ON COLUMN queue.outbox_tasks.worker_id IS 'The process that holds it';
COMMENT ON COLUMN queue.outbox_tasks.progress IS 'From 0 to 1';
COMMENT ON TABLE queue.attempts IS 'An attempt that did not end its task as done, or whose handler logged something.';
COMMENT ON COLUMN queue.attempts.number IS 'The how-manieth attempt of its task';
COMMENT ON TABLE queue.task_dependencies IS 'One task waits for another; written with the child and never after, so there is no circle.';
COMMENT ON COLUMN queue.task_dependencies.parent_status IS 'How the parent ended; unknown: its history was gone';
COMMENT ON TABLE queue.batches IS 'Tasks that belong together, and the tasks that are enqueued at its end.';
COMMENT ON COLUMN queue.batches.on_done IS 'Type and payload of a task';
COMMENT ON COLUMN queue.batches.added IS 'Follows the members within moments, like the other counts';
COMMENT ON COLUMN queue.batches.closed_at IS 'Nothing is added any more';
COMMENT ON TABLE queue.settlements IS 'What a relay has to look after: a watched end, an addition to a batch, its closing. It lives for moments.';
COMMENT ON TABLE queue.chores IS 'What one relay does for all of them, and up to when it is done; whoever holds the row does it.';
COMMENT ON TABLE queue.statistics IS 'What ended in a minute, by queue and task type.';
COMMENT ON COLUMN queue.statistics.runs IS 'The ended tasks that had started';
COMMENT ON COLUMN queue.statistics.run_seconds IS 'Of the runs, like the other seconds';
COMMENT ON COLUMN queue.statistics.retried IS 'Attempts that ended without ending their task';
COMMENT ON TABLE queue.gauges IS 'How a queue stood at the beginning of a minute.';
COMMENT ON COLUMN queue.gauges.oldest_seconds IS 'How long the oldest due task waits';
COMMENT ON TABLE queue.alerts IS 'What is wrong, or was: one raised row a key, and how far it has been told.';
COMMENT ON COLUMN queue.alerts.facts IS 'Ids, names, counts and seconds; never payloads or texts of errors';
COMMENT ON COLUMN queue.alerts.next_try_at IS 'None where there is nothing to tell';
COMMENT ON TABLE queue.tasks_live IS 'The tasks that have not ended: pending and in progress.';
COMMENT ON TABLE queue.tasks_history IS 'The tasks that have ended, by months of their end.';

-- ---------------------------------------------------------------------------------------------------- tables

CREATE TABLE ops.persona_health_metrics (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    cpu_percent numeric(5, 2),
    memory_mb integer,
    memory_percent numeric(5, 2),
    disk_usage_gb numeric(10, 2),
    llm_calls_count integer DEFAULT 0 NOT NULL,
    estimated_cost numeric(10, 4),
    active_runs_count integer DEFAULT 0 NOT NULL,
    measured_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_health_metrics_pkey PRIMARY KEY (id, measured_at),
    CONSTRAINT persona_health_metrics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_health_metrics_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_health_metrics_cpu_percent_check CHECK (cpu_percent >= 0 AND cpu_percent <= 100),
    CONSTRAINT persona_health_metrics_memory_mb_check CHECK (memory_mb >= 0),
    CONSTRAINT persona_health_metrics_memory_percent_check CHECK (memory_percent >= 0 AND memory_percent <= 100),
    CONSTRAINT persona_health_metrics_disk_usage_gb_check CHECK (disk_usage_gb >= 0),
    CONSTRAINT persona_health_metrics_llm_calls_count_check CHECK (llm_calls_count >= 0),
    CONSTRAINT persona_health_metrics_estimated_cost_check CHECK (estimated_cost >= 0),
    CONSTRAINT persona_health_metrics_active_runs_count_check CHECK (active_runs_count >= 0)
) PARTITION BY RANGE (measured_at);
CREATE INDEX persona_health_metrics_persona_id_idx ON ops.persona_health_metrics (persona_id);
CREATE INDEX persona_health_metrics_persona_id_measured_at_idx ON ops.persona_health_metrics (persona_id, measured_at);
CREATE INDEX persona_health_metrics_tenant_id_measured_at_idx ON ops.persona_health_metrics (tenant_id, measured_at);
COMMENT ON TABLE ops.persona_health_metrics IS 'What a persona used and did since its last measure; NULL where nothing was measured.';
COMMENT ON COLUMN ops.persona_health_metrics.cpu_percent IS 'Of what it may use, 0 to 100';
COMMENT ON COLUMN ops.persona_health_metrics.memory_mb IS 'MB, without the page cache';
COMMENT ON COLUMN ops.persona_health_metrics.memory_percent IS 'Of its limit, 0 to 100';
COMMENT ON COLUMN ops.persona_health_metrics.disk_usage_gb IS 'GB';
COMMENT ON COLUMN ops.persona_health_metrics.llm_calls_count IS 'Since the last measure';
COMMENT ON COLUMN ops.persona_health_metrics.estimated_cost IS 'USD since the last measure';

CREATE TABLE ops.persona_health_hourly (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    sample_count integer NOT NULL,
    cpu_percent_avg numeric(5, 2),
    cpu_percent_max numeric(5, 2),
    cpu_percent_p95 numeric(5, 2),
    memory_mb_avg numeric(12, 2),
    memory_mb_max integer,
    memory_mb_p95 numeric(12, 2),
    memory_percent_avg numeric(5, 2),
    memory_percent_max numeric(5, 2),
    memory_percent_p95 numeric(5, 2),
    disk_usage_gb_avg numeric(10, 2),
    disk_usage_gb_max numeric(10, 2),
    disk_usage_gb_p95 numeric(10, 2),
    llm_calls_sum bigint DEFAULT 0 NOT NULL,
    estimated_cost_sum numeric(14, 4),
    active_runs_avg numeric(12, 2) NOT NULL,
    active_runs_max integer NOT NULL,
    active_runs_p95 numeric(12, 2) NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_health_hourly_pkey PRIMARY KEY (id),
    CONSTRAINT persona_health_hourly_persona_id_hour_key UNIQUE (persona_id, hour),
    CONSTRAINT persona_health_hourly_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_health_hourly_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_health_hourly_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_health_hourly_hour_check CHECK (extract(epoch FROM hour) % 3600 = 0),
    CONSTRAINT persona_health_hourly_sample_count_check CHECK (sample_count > 0),
    CONSTRAINT persona_health_hourly_cpu_percent_avg_check CHECK (cpu_percent_avg >= 0 AND cpu_percent_avg <= cpu_percent_max),
    CONSTRAINT persona_health_hourly_cpu_percent_max_check CHECK (cpu_percent_max >= 0 AND cpu_percent_max <= 100),
    CONSTRAINT persona_health_hourly_cpu_percent_p95_check CHECK (cpu_percent_p95 >= 0 AND cpu_percent_p95 <= cpu_percent_max),
    CONSTRAINT persona_health_hourly_memory_mb_avg_check CHECK (memory_mb_avg >= 0 AND memory_mb_avg <= memory_mb_max),
    CONSTRAINT persona_health_hourly_memory_mb_max_check CHECK (memory_mb_max >= 0),
    CONSTRAINT persona_health_hourly_memory_mb_p95_check CHECK (memory_mb_p95 >= 0 AND memory_mb_p95 <= memory_mb_max),
    CONSTRAINT persona_health_hourly_memory_percent_avg_check CHECK (memory_percent_avg >= 0 AND memory_percent_avg <= memory_percent_max),
    CONSTRAINT persona_health_hourly_memory_percent_max_check CHECK (memory_percent_max >= 0 AND memory_percent_max <= 100),
    CONSTRAINT persona_health_hourly_memory_percent_p95_check CHECK (memory_percent_p95 >= 0 AND memory_percent_p95 <= memory_percent_max),
    CONSTRAINT persona_health_hourly_disk_usage_gb_avg_check CHECK (disk_usage_gb_avg >= 0 AND disk_usage_gb_avg <= disk_usage_gb_max),
    CONSTRAINT persona_health_hourly_disk_usage_gb_max_check CHECK (disk_usage_gb_max >= 0),
    CONSTRAINT persona_health_hourly_disk_usage_gb_p95_check CHECK (disk_usage_gb_p95 >= 0 AND disk_usage_gb_p95 <= disk_usage_gb_max),
    CONSTRAINT persona_health_hourly_llm_calls_sum_check CHECK (llm_calls_sum >= 0),
    CONSTRAINT persona_health_hourly_estimated_cost_sum_check CHECK (estimated_cost_sum >= 0),
    CONSTRAINT persona_health_hourly_active_runs_avg_check CHECK (active_runs_avg >= 0 AND active_runs_avg <= active_runs_max),
    CONSTRAINT persona_health_hourly_active_runs_p95_check CHECK (active_runs_p95 >= 0 AND active_runs_p95 <= active_runs_max)
);
CREATE INDEX persona_health_hourly_tenant_id_hour_idx ON ops.persona_health_hourly (tenant_id, hour);
COMMENT ON TABLE ops.persona_health_hourly IS 'A persona''s measures of one hour rolled up; an hour without measures has no row.';
COMMENT ON COLUMN ops.persona_health_hourly.hour IS 'Its beginning, UTC';
COMMENT ON COLUMN ops.persona_health_hourly.sample_count IS 'Measures of the hour';
COMMENT ON COLUMN ops.persona_health_hourly.cpu_percent_p95 IS 'The 95th percentile, like every p95';
COMMENT ON COLUMN ops.persona_health_hourly.memory_mb_max IS 'MB';
COMMENT ON COLUMN ops.persona_health_hourly.disk_usage_gb_max IS 'GB';
COMMENT ON COLUMN ops.persona_health_hourly.estimated_cost_sum IS 'USD';
COMMENT ON COLUMN ops.persona_health_hourly.active_runs_max IS 'No less than the average, which is no less than 0';
CREATE TRIGGER touch BEFORE UPDATE ON ops.persona_health_hourly FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE ops.retention_policies (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    name text NOT NULL,
    tenant_id uuid,
    persona_id uuid,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    age_column text NOT NULL,
    age interval NOT NULL,
    filter jsonb DEFAULT '{}' NOT NULL,
    action text DEFAULT 'delete' NOT NULL,
    is_enabled boolean DEFAULT true NOT NULL,
    is_held boolean DEFAULT false NOT NULL,
    hold_reason text,
    source text DEFAULT 'operator' NOT NULL,
    description text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT retention_policies_pkey PRIMARY KEY (id),
    CONSTRAINT retention_policies_name_key UNIQUE (name),
    CONSTRAINT retention_policies_persona_has_tenant_check CHECK (persona_id IS NULL OR tenant_id IS NOT NULL),
    CONSTRAINT retention_policies_hold_reason_if_held_check CHECK (is_held = (hold_reason IS NOT NULL)),
    CONSTRAINT retention_policies_partition_is_whole_check CHECK (action <> 'drop_partition' OR (tenant_id IS NULL AND filter = '{}')),
    CONSTRAINT retention_policies_name_check CHECK (length(name) BETWEEN 1 AND 100),
    CONSTRAINT retention_policies_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT retention_policies_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT retention_policies_table_schema_check CHECK (table_schema ~ '^[a-z_][a-z0-9_]*$' AND length(table_schema) <= 63),
    CONSTRAINT retention_policies_table_name_check CHECK (table_name ~ '^[a-z_][a-z0-9_]*$' AND length(table_name) <= 63),
    CONSTRAINT retention_policies_age_column_check CHECK (age_column ~ '^[a-z_][a-z0-9_]*$' AND length(age_column) <= 63),
    CONSTRAINT retention_policies_age_check CHECK (age > interval '0'),
    CONSTRAINT retention_policies_filter_check CHECK (jsonb_typeof(filter) = 'object' AND pg_column_size(filter) <= 2000),
    CONSTRAINT retention_policies_action_check CHECK (action IN ('delete', 'archive', 'roll_up', 'drop_partition')),
    CONSTRAINT retention_policies_hold_reason_check CHECK (length(hold_reason) BETWEEN 1 AND 2000),
    CONSTRAINT retention_policies_source_check CHECK (length(source) BETWEEN 1 AND 100),
    CONSTRAINT retention_policies_description_check CHECK (length(description) <= 2000)
);
CREATE INDEX retention_policies_persona_id_idx ON ops.retention_policies (persona_id);
CREATE UNIQUE INDEX retention_policies_scope_key ON ops.retention_policies (table_schema, table_name, filter, tenant_id, persona_id) NULLS NOT DISTINCT;
CREATE INDEX retention_policies_tenant_id_idx ON ops.retention_policies (tenant_id);
COMMENT ON TABLE ops.retention_policies IS 'How long rows of a table are kept, and what happens to them then: for all, for a tenant or for a persona.';
COMMENT ON COLUMN ops.retention_policies.tenant_id IS 'NULL: of every tenant';
COMMENT ON COLUMN ops.retention_policies.persona_id IS 'NULL: of every persona';
COMMENT ON COLUMN ops.retention_policies.table_name IS 'Of the catalogue: a trigger looks, as for the columns';
COMMENT ON COLUMN ops.retention_policies.age_column IS 'The time that a row''s age counts from';
COMMENT ON COLUMN ops.retention_policies.age IS 'Rows older than this go';
COMMENT ON COLUMN ops.retention_policies.filter IS 'Values of columns that a row must have to go; all rows if empty';
COMMENT ON COLUMN ops.retention_policies.action IS 'archive and roll_up delete then; drop_partition takes whole months';
COMMENT ON COLUMN ops.retention_policies.is_held IS 'Legal hold: what it speaks of stays, whatever others say';
COMMENT ON COLUMN ops.retention_policies.source IS 'Who wants it: a design, an operator, a law';
CREATE TRIGGER touch BEFORE UPDATE ON ops.retention_policies FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE ops.retention_runs (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    policy_id uuid,
    policy_name text NOT NULL,
    tenant_id uuid,
    task_id uuid,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    action text NOT NULL,
    status text DEFAULT 'running' NOT NULL,
    cutoff timestamptz NOT NULL,
    resume_after jsonb,
    rows_deleted bigint DEFAULT 0 NOT NULL,
    rows_archived bigint DEFAULT 0 NOT NULL,
    rows_rolled_up bigint DEFAULT 0 NOT NULL,
    rows_held bigint DEFAULT 0 NOT NULL,
    byte_count bigint DEFAULT 0 NOT NULL,
    partitions_dropped text[] DEFAULT '{}' NOT NULL,
    manifest_location text,
    manifest_checksum text,
    schema_revision text,
    error_message text,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT retention_runs_pkey PRIMARY KEY (id),
    CONSTRAINT retention_runs_status_says_when_check CHECK ((status = 'running') = (ended_at IS NULL)),
    CONSTRAINT retention_runs_status_says_why_check CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT retention_runs_policy_id_fkey FOREIGN KEY (policy_id) REFERENCES ops.retention_policies (id) ON DELETE SET NULL,
    CONSTRAINT retention_runs_policy_name_check CHECK (length(policy_name) BETWEEN 1 AND 100),
    CONSTRAINT retention_runs_table_schema_check CHECK (table_schema ~ '^[a-z_][a-z0-9_]*$' AND length(table_schema) <= 63),
    CONSTRAINT retention_runs_table_name_check CHECK (table_name ~ '^[a-z_][a-z0-9_]*$' AND length(table_name) <= 63),
    CONSTRAINT retention_runs_action_check CHECK (action IN ('delete', 'archive', 'roll_up', 'drop_partition')),
    CONSTRAINT retention_runs_status_check CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT retention_runs_rows_deleted_check CHECK (rows_deleted >= 0),
    CONSTRAINT retention_runs_rows_archived_check CHECK (rows_archived >= 0),
    CONSTRAINT retention_runs_rows_rolled_up_check CHECK (rows_rolled_up >= 0),
    CONSTRAINT retention_runs_rows_held_check CHECK (rows_held >= 0),
    CONSTRAINT retention_runs_byte_count_check CHECK (byte_count >= 0),
    CONSTRAINT retention_runs_manifest_location_check CHECK (length(manifest_location) <= 2000),
    CONSTRAINT retention_runs_manifest_checksum_check CHECK (manifest_checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT retention_runs_schema_revision_check CHECK (length(schema_revision) <= 64),
    CONSTRAINT retention_runs_error_message_check CHECK (length(error_message) <= 20000),
    CONSTRAINT retention_runs_ended_at_check CHECK (ended_at >= started_at)
);
CREATE INDEX retention_runs_policy_id_idx ON ops.retention_runs (policy_id);
CREATE INDEX retention_runs_running_idx ON ops.retention_runs (policy_id) WHERE status = 'running';
CREATE INDEX retention_runs_started_at_idx ON ops.retention_runs (started_at);
CREATE INDEX retention_runs_table_schema_table_name_started_at_idx ON ops.retention_runs (table_schema, table_name, started_at);
COMMENT ON TABLE ops.retention_runs IS 'One run of a policy over a table: what it looked at, what went, where to, and from where it goes on.';
COMMENT ON COLUMN ops.retention_runs.policy_name IS 'Kept when the policy is gone';
COMMENT ON COLUMN ops.retention_runs.tenant_id IS 'Whose rows it took, there or gone; NULL: of every tenant';
COMMENT ON COLUMN ops.retention_runs.task_id IS 'The task that ran it';
COMMENT ON COLUMN ops.retention_runs.cutoff IS 'Rows older than this were to go';
COMMENT ON COLUMN ops.retention_runs.resume_after IS 'The key of the last row done: a killed run goes on there';
COMMENT ON COLUMN ops.retention_runs.rows_held IS 'Old enough, and kept by a hold';
COMMENT ON COLUMN ops.retention_runs.byte_count IS 'Bytes of the rows that went';
COMMENT ON COLUMN ops.retention_runs.manifest_location IS 'Of the archive that it wrote';
COMMENT ON COLUMN ops.retention_runs.manifest_checksum IS 'SHA-256';
COMMENT ON COLUMN ops.retention_runs.schema_revision IS 'Of the migrations, when it ran';

CREATE TABLE ops.backups (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    kind text NOT NULL,
    base_id uuid,
    status text DEFAULT 'running' NOT NULL,
    tier text DEFAULT 'online' NOT NULL,
    location text,
    byte_count bigint,
    checksum text,
    schema_revision text NOT NULL,
    server_version text,
    wal_start text,
    wal_end text,
    started_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    verified_at timestamptz,
    archived_at timestamptz,
    expires_at timestamptz,
    error_message text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT backups_pkey PRIMARY KEY (id),
    CONSTRAINT backups_kind_has_base_check CHECK (kind = 'full' OR base_id IS NOT NULL),
    CONSTRAINT backups_base_id_is_another_check CHECK (base_id <> id),
    CONSTRAINT backups_status_is_whole_check CHECK (status IN ('running', 'failed') OR num_nulls(location, byte_count, checksum, completed_at) = 0),
    CONSTRAINT backups_status_says_why_check CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CONSTRAINT backups_kind_check CHECK (kind IN ('full', 'incremental')),
    CONSTRAINT backups_base_id_fkey FOREIGN KEY (base_id) REFERENCES ops.backups (id) ON DELETE RESTRICT,
    CONSTRAINT backups_status_check CHECK (status IN ('running', 'completed', 'failed', 'expired')),
    CONSTRAINT backups_tier_check CHECK (tier IN ('online', 'archived')),
    CONSTRAINT backups_location_check CHECK (length(location) BETWEEN 1 AND 2000),
    CONSTRAINT backups_byte_count_check CHECK (byte_count >= 0),
    CONSTRAINT backups_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT backups_schema_revision_check CHECK (length(schema_revision) BETWEEN 1 AND 64),
    CONSTRAINT backups_server_version_check CHECK (length(server_version) <= 64),
    CONSTRAINT backups_wal_start_check CHECK (wal_start ~ '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$'),
    CONSTRAINT backups_wal_end_check CHECK (wal_end ~ '^[0-9A-F]{1,8}/[0-9A-F]{1,8}$'),
    CONSTRAINT backups_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT backups_verified_at_check CHECK (verified_at >= completed_at),
    CONSTRAINT backups_archived_at_check CHECK (archived_at IS NULL OR tier = 'archived'),
    CONSTRAINT backups_expires_at_check CHECK (expires_at > started_at),
    CONSTRAINT backups_error_message_check CHECK (length(error_message) <= 20000)
);
CREATE INDEX backups_base_id_idx ON ops.backups (base_id);
CREATE INDEX backups_expires_at_idx ON ops.backups (expires_at);
CREATE INDEX backups_status_started_at_idx ON ops.backups (status, started_at);
COMMENT ON TABLE ops.backups IS 'A copy of the database: a full one, or what changed since another; proven by a restore.';
COMMENT ON COLUMN ops.backups.base_id IS 'What an increment adds to';
COMMENT ON COLUMN ops.backups.tier IS 'Archived: kept longer, read slower';
COMMENT ON COLUMN ops.backups.byte_count IS 'Bytes';
COMMENT ON COLUMN ops.backups.checksum IS 'SHA-256';
COMMENT ON COLUMN ops.backups.schema_revision IS 'Of the migrations';
COMMENT ON COLUMN ops.backups.wal_start IS 'LSN';
COMMENT ON COLUMN ops.backups.wal_end IS 'LSN; archived WAL goes on from here';
COMMENT ON COLUMN ops.backups.verified_at IS 'When a restore proved it';
COMMENT ON COLUMN ops.backups.expires_at IS 'When it may be deleted';
CREATE TRIGGER touch BEFORE UPDATE ON ops.backups FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- retention

-- A policy speaks of tables and columns that there are, and never of SQL. Runs after the row's own rules.
CREATE FUNCTION ops.check_retention_policy() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation oid;
    parted_by text;
    broken text;
BEGIN
    SELECT c.oid, pg_get_partkeydef(c.oid) INTO relation, parted_by FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = NEW.table_schema AND c.relname = NEW.table_name AND c.relkind IN ('r', 'p')
        AND n.nspname IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops',
            'audit', 'queue');
    broken := CASE
        WHEN relation IS NULL THEN 'table_name'
        WHEN NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = NEW.age_column AND a.attnum > 0
            AND a.atttypid = 'timestamptz'::regtype) THEN 'age_column'
        WHEN EXISTS (SELECT FROM jsonb_each(NEW.filter) AS f (name, wanted) WHERE jsonb_typeof(f.wanted) IN ('object', 'array')
            OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = f.name AND a.attnum > 0))
            THEN 'filter'
        WHEN NEW.action = 'drop_partition' AND parted_by IS DISTINCT FROM format('RANGE (%I)', NEW.age_column) THEN 'action'
        WHEN NEW.tenant_id IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'tenant_id') THEN 'tenant_id'
        WHEN NEW.persona_id IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = 'persona_id') THEN 'persona_id'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'retention cannot go by this % of %.%', broken, NEW.table_schema, NEW.table_name USING ERRCODE = 'check_violation',
            SCHEMA = 'ops', TABLE = 'retention_policies', CONSTRAINT = format('retention_policies_%s_check', broken);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER check_policy AFTER INSERT OR UPDATE ON ops.retention_policies FOR EACH ROW
    EXECUTE FUNCTION ops.check_retention_policy();

-- What the designs ask for. What they keep for ever (000: audit events, 003: conversations) has no policy, nor what is marked and
-- kept (001: expired personas); what they leave open ("after N days", "optional") stands here switched off.
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, is_enabled, source, description)
VALUES
    ('health-metrics', 'ops', 'persona_health_metrics', 'measured_at', '30 days', '{}', 'roll_up', true, '000',
        'Measures go after 30 days, rolled up by hours'),
    ('sessions', 'identity', 'sessions', 'expires_at', '1 day', '{}', 'delete', true, '000', 'Tokens that have expired'),
    ('runs', 'assistants', 'runs', 'completed_at', '1 year', '{}', 'archive', false, '000', 'Ended runs, with their steps'),
    ('tool-executions', 'tools', 'tool_executions', 'created_at', '1 year', '{}', 'archive', false, '000', 'Calls of tools'),
    ('governance-events', 'governance', 'governance_events', 'created_at', '7 years', '{}', 'drop_partition', true, '002',
        'Decisions are kept for the audit, whatever becomes of their sessions'),
    ('user-sessions', 'identity', 'user_sessions', 'ended_at', '2 years', '{}', 'delete', true, '002', 'Ended sessions of users'),
    ('agent-sessions', 'governance', 'agent_sessions', 'completed_at', '1 year', '{"status": "completed"}', 'delete', true, '002',
        'Completed sessions of agents'),
    ('tasks', 'queue', 'tasks_history', 'completed_at', '30 days', '{}', 'delete', true, '003', 'Tasks that have ended'),
    ('messages', 'assistants', 'messages', 'created_at', '1 year', '{}', 'archive', false, '003', 'Messages of conversations');

-- ---------------------------------------------------------------------------------------------------- health and views

-- How the database does (002). `active_connections` counts a session whose state the caller may not see as active: better a warning
-- too early. Of the cache's hits a high share is good; of the others, a low value.
CREATE FUNCTION ops.db_health_check() RETURNS TABLE (metric text, value numeric, status text, threshold numeric) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH measured (metric, value, threshold, is_floor) AS (
        SELECT 'active_connections', count(*)::numeric, 100::numeric, false
        FROM pg_stat_activity WHERE state = 'active' OR state IS NULL AND query = '<insufficient privilege>' AND usesysid IS NOT NULL
        UNION ALL
        SELECT 'db_size_mb', round(pg_database_size(current_database()) / 1048576.0, 1), 10240, false
        UNION ALL
        SELECT 'cache_hit_ratio', round(COALESCE(blks_hit * 100.0 / NULLIF(blks_hit + blks_read, 0), 100), 2), 90, true
        FROM pg_stat_database WHERE datname = current_database()
    )
    SELECT metric, value, CASE WHEN is_floor AND value < threshold OR NOT is_floor AND value > threshold THEN 'WARNING' ELSE 'OK' END,
        threshold
    FROM measured
$$;
COMMENT ON FUNCTION ops.db_health_check IS 'Active connections, size in MB, cache hits in percent: OK or WARNING (002).';

CREATE VIEW ops.backup_critical_data WITH (security_invoker = true) AS
SELECT 'users' AS table_name, u.id::text AS record_id, to_jsonb(u) AS data, u.created_at AS backup_priority
FROM (SELECT id, tenant_id, external_id, email, username, name, first_name, last_name, image, role, permissions, status, is_active,
        auth_provider, auth_external_id, preferences, email_verified_at, last_login_at, last_active_at, last_used_at, version, created_at,
        updated_at, deleted_at FROM identity.users) AS u
UNION ALL
SELECT 'agent_sessions', s.id::text, to_jsonb(s), s.created_at
FROM governance.agent_sessions s WHERE s.created_at > now() - interval '30 days'
UNION ALL
SELECT 'governance_events', e.id::text, to_jsonb(e), e.created_at
FROM governance.governance_events e WHERE e.created_at > now() - interval '90 days';
COMMENT ON VIEW ops.backup_critical_data IS 'What a backup takes first, as JSON, without hashes of passwords (002).';

CREATE VIEW ops.table_sizes WITH (security_invoker = true) AS
SELECT n.nspname AS schemaname, c.relname AS tablename, pg_size_pretty(pg_total_relation_size(c.oid)) AS total_size,
    pg_total_relation_size(c.oid) AS total_bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail',
    'vault', 'ops', 'audit', 'queue')
ORDER BY total_bytes DESC;
COMMENT ON VIEW ops.table_sizes IS 'Tables and partitions with their indexes, the largest first; a parted table itself has no bytes (004).';

CREATE VIEW ops.unused_indexes WITH (security_invoker = true) AS
SELECT s.schemaname, s.relname AS tablename, s.indexrelname AS indexname, s.idx_scan, i.indisunique AS is_unique,
    pg_relation_size(s.indexrelid) AS total_bytes
FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
WHERE s.idx_scan = 0 AND s.indexrelname NOT LIKE 'pg\_%'
ORDER BY total_bytes DESC;
COMMENT ON VIEW ops.unused_indexes IS 'Indexes that no query has read so far; a unique one still keeps its rule (004).';

CREATE VIEW ops.connections WITH (security_invoker = true) AS
SELECT datname, count(*) AS count FROM pg_stat_activity GROUP BY datname;
COMMENT ON VIEW ops.connections IS 'Sessions by database; without one: the server''s own processes (004).';

-- ---------------------------------------------------------------------------------------------------- row security and grants

SELECT ops.create_months();
SELECT ops.bind_to_tenant('ops.persona_health_metrics', 'ops.persona_health_hourly');

-- A bound transaction sees and writes its tenant's. What is of no tenant is the operator's, with none bound, and the system's.
DO $$
DECLARE
    relation regclass;
    bound CONSTANT text := 'tenant_id = (SELECT identity.current_tenant_id())';
    unbound CONSTANT text := '(SELECT identity.current_tenant_id()) IS NULL';
BEGIN
    FOREACH relation IN ARRAY ARRAY['ops.retention_policies', 'ops.retention_runs']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_system, greenroom_operator, greenroom_reader '
            'USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY tenant_binds ON %s AS RESTRICTIVE TO greenroom_reader USING (%s) WITH CHECK (%s)',
            relation, bound, bound);
        EXECUTE format('CREATE POLICY operator_binds ON %s AS RESTRICTIVE TO greenroom_operator USING (%s OR %s) WITH CHECK (%s OR %s)',
            relation, bound, unbound, bound, unbound);
    END LOOP;
END
$$;
GRANT SELECT ON ops.retention_policies TO greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON ops.retention_policies TO greenroom_operator;
GRANT SELECT ON ops.retention_runs TO greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE ON ops.retention_runs TO greenroom_system;
-- A backup is of all tenants.
GRANT SELECT ON ops.backups TO greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON ops.backups TO greenroom_system, greenroom_operator;
GRANT SELECT ON ops.backup_critical_data, ops.table_sizes, ops.unused_indexes, ops.connections
    TO greenroom_system, greenroom_operator, greenroom_reader;
REVOKE EXECUTE ON FUNCTION ops.db_health_check, ops.check_retention_policy FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.db_health_check TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
