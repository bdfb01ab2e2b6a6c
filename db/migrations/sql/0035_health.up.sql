-- Personas' health: where a persona runs, how far its measuring is, and from when on it is told of.

-- ---------------------------------------------------------------------------------------------------- where it runs

ALTER TABLE assistants.personas
    ADD COLUMN host text,
    ADD COLUMN process_id integer,
    ADD COLUMN process_started_at timestamptz,
    ADD CONSTRAINT personas_host_check CHECK (length(host) <= 90 AND host ~ '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$'),
    ADD CONSTRAINT personas_process_id_check CHECK (process_id > 0),
    ADD CONSTRAINT personas_process_started_at_range_check
        CHECK (process_started_at >= '0002-01-01 00:00+00' AND process_started_at < '9999-01-01 00:00+00'),
    ADD CONSTRAINT personas_process_check CHECK ((process_id IS NULL) = (process_started_at IS NULL));
COMMENT ON COLUMN assistants.personas.host IS 'Where its container or process runs, as that host''s queue is called; NULL: any worker reaches it';
COMMENT ON COLUMN assistants.personas.process_id IS 'The process that it is, on its host, where it has no container';
COMMENT ON COLUMN assistants.personas.process_started_at IS 'When that process started: a number is given again';

-- ---------------------------------------------------------------------------------------------------- how far measuring is

CREATE TABLE ops.persona_health_states (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    measured_at timestamptz,
    source text,
    cpu_used_ns bigint,
    cpu_capacity_ns bigint,
    counted_since timestamptz NOT NULL,
    calls_counted integer DEFAULT 0 NOT NULL,
    costs_counted integer DEFAULT 0 NOT NULL,
    cost_counted numeric(20, 6) DEFAULT 0 NOT NULL,
    cost_carried numeric(20, 6) DEFAULT 0 NOT NULL,
    crossed text[] DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_health_states_pkey PRIMARY KEY (id),
    CONSTRAINT persona_health_states_persona_id_key UNIQUE (persona_id),
    CONSTRAINT persona_health_states_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_health_states_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_health_states_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id)
        REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_health_states_measured_at_range_check
        CHECK (measured_at >= '0002-01-01 00:00+00' AND measured_at < '9999-01-01 00:00+00'),
    CONSTRAINT persona_health_states_source_check CHECK (length(source) BETWEEN 1 AND 400),
    CONSTRAINT persona_health_states_cpu_used_ns_check CHECK (cpu_used_ns >= 0),
    CONSTRAINT persona_health_states_cpu_capacity_ns_check CHECK (cpu_capacity_ns >= 0),
    CONSTRAINT persona_health_states_counters_check CHECK (num_nulls(source, cpu_used_ns, cpu_capacity_ns) IN (0, 3)),
    CONSTRAINT persona_health_states_counted_since_range_check
        CHECK (counted_since >= '0002-01-01 00:00+00' AND counted_since < '9999-01-01 00:00+00'),
    CONSTRAINT persona_health_states_calls_counted_check CHECK (calls_counted >= 0),
    CONSTRAINT persona_health_states_costs_counted_check CHECK (costs_counted >= 0),
    CONSTRAINT persona_health_states_cost_counted_check CHECK (cost_counted >= 0 AND cost_counted < 'Infinity'),
    CONSTRAINT persona_health_states_cost_carried_check CHECK (cost_carried >= 0 AND cost_carried < 'Infinity'),
    CONSTRAINT persona_health_states_created_at_range_check
        CHECK (created_at >= '0002-01-01 00:00+00' AND created_at < '9999-01-01 00:00+00'),
    CONSTRAINT persona_health_states_updated_at_range_check
        CHECK (updated_at >= '0002-01-01 00:00+00' AND updated_at < '9999-01-01 00:00+00')
);
CREATE INDEX persona_health_states_tenant_id_idx ON ops.persona_health_states (tenant_id);
COMMENT ON TABLE ops.persona_health_states IS 'How far a persona''s measuring is: the last counters of its processor time, what is counted, and the thresholds that it is over.';
COMMENT ON COLUMN ops.persona_health_states.measured_at IS 'When it was last measured; NULL: never yet';
COMMENT ON COLUMN ops.persona_health_states.source IS 'The start of the container or process whose counters these are';
COMMENT ON COLUMN ops.persona_health_states.cpu_used_ns IS 'Nanoseconds of processor time that it had used, since its start';
COMMENT ON COLUMN ops.persona_health_states.cpu_capacity_ns IS 'Nanoseconds that all processors of its host had run by then';
COMMENT ON COLUMN ops.persona_health_states.counted_since IS 'Calls and costs of after this moment have been counted as far as they were there';
COMMENT ON COLUMN ops.persona_health_states.calls_counted IS 'Calls among them';
COMMENT ON COLUMN ops.persona_health_states.costs_counted IS 'Rows with a cost among them';
COMMENT ON COLUMN ops.persona_health_states.cost_counted IS 'USD, the sum of these';
COMMENT ON COLUMN ops.persona_health_states.cost_carried IS 'USD, too little for a measure''s four decimals so far';
COMMENT ON COLUMN ops.persona_health_states.crossed IS 'Measures that are over their threshold';
CREATE TRIGGER touch BEFORE UPDATE ON ops.persona_health_states FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- thresholds

CREATE TABLE ops.health_thresholds (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid,
    metric text NOT NULL,
    raise_at numeric(14, 4),
    clear_below numeric(14, 4),
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT health_thresholds_pkey PRIMARY KEY (id),
    CONSTRAINT health_thresholds_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT health_thresholds_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT health_thresholds_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id)
        REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT health_thresholds_metric_check CHECK (metric IN ('cpu_percent', 'memory_mb', 'memory_percent', 'disk_usage_gb',
        'llm_calls_count', 'estimated_cost', 'active_runs_count')),
    CONSTRAINT health_thresholds_raise_at_check CHECK (raise_at >= 0 AND raise_at < 'Infinity'),
    CONSTRAINT health_thresholds_clear_below_check CHECK (clear_below >= 0 AND clear_below < 'Infinity'),
    CONSTRAINT health_thresholds_order_check CHECK (clear_below <= raise_at),
    CONSTRAINT health_thresholds_both_check CHECK ((raise_at IS NULL) = (clear_below IS NULL)),
    CONSTRAINT health_thresholds_created_at_range_check
        CHECK (created_at >= '0002-01-01 00:00+00' AND created_at < '9999-01-01 00:00+00'),
    CONSTRAINT health_thresholds_updated_at_range_check
        CHECK (updated_at >= '0002-01-01 00:00+00' AND updated_at < '9999-01-01 00:00+00')
);
CREATE UNIQUE INDEX health_thresholds_scope_key ON ops.health_thresholds (tenant_id, persona_id, metric) NULLS NOT DISTINCT;
CREATE INDEX health_thresholds_persona_id_idx ON ops.health_thresholds (persona_id);
COMMENT ON TABLE ops.health_thresholds IS 'From when on a measure is told of, of one persona or of all of a tenant''s; without a row the setting''s.';
COMMENT ON COLUMN ops.health_thresholds.persona_id IS 'NULL: of every persona that has none of its own';
COMMENT ON COLUMN ops.health_thresholds.metric IS 'As the column of ops.persona_health_metrics';
COMMENT ON COLUMN ops.health_thresholds.raise_at IS 'It is crossed from here on; NULL: never';
COMMENT ON COLUMN ops.health_thresholds.clear_below IS 'It is over below this';
CREATE TRIGGER touch BEFORE UPDATE ON ops.health_thresholds FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

SELECT ops.bind_to_tenant('ops.persona_health_states', 'ops.health_thresholds');

-- ---------------------------------------------------------------------------------------------------- what measuring reads by

-- A persona's runs that go on, and those that ended lately; what its agents' use cost lately.
CREATE INDEX runs_persona_id_completed_at_idx ON assistants.runs (persona_id, completed_at);
CREATE INDEX usage_metrics_agent_id_recorded_at_idx ON billing.usage_metrics (agent_id, recorded_at);
