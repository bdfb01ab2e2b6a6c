-- The data model: agents under approval; personas and their activation, sessions, what was decided about them and why.

CREATE SCHEMA governance;

CREATE TABLE governance.personas (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text NOT NULL,
    persona_name text NOT NULL,
    persona_version text NOT NULL,
    specialization text NOT NULL,
    capabilities jsonb DEFAULT '{}' NOT NULL,
    activation_rules jsonb DEFAULT '{}' NOT NULL,
    crisis_scenarios jsonb DEFAULT '{}' NOT NULL,
    behavioral_patterns jsonb DEFAULT '{}' NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    is_core boolean DEFAULT false NOT NULL,
    priority_level integer DEFAULT 5 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT personas_pkey PRIMARY KEY (id),
    CONSTRAINT personas_tenant_id_persona_name_persona_version_key UNIQUE (tenant_id, persona_name, persona_version),
    CONSTRAINT personas_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT personas_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT personas_external_id_check CHECK (length(external_id) BETWEEN 1 AND 100),
    CONSTRAINT personas_persona_name_check CHECK (length(persona_name) BETWEEN 1 AND 255),
    CONSTRAINT personas_persona_version_check CHECK (length(persona_version) BETWEEN 1 AND 20),
    CONSTRAINT personas_specialization_check CHECK (length(specialization) BETWEEN 1 AND 255),
    CONSTRAINT personas_priority_level_check CHECK (priority_level >= 1 AND priority_level <= 10)
);
CREATE INDEX personas_active_idx ON governance.personas (tenant_id, is_active);
CREATE INDEX personas_core_idx ON governance.personas (tenant_id, is_core);
CREATE UNIQUE INDEX personas_external_id_key ON governance.personas (tenant_id, external_id);
CREATE INDEX personas_priority_idx ON governance.personas (tenant_id, priority_level);
CREATE INDEX personas_specialization_idx ON governance.personas (tenant_id, specialization);
COMMENT ON TABLE governance.personas IS 'A role that an agent may take on, with the rules of when it does.';
COMMENT ON COLUMN governance.personas.external_id IS 'The product''s own key';
COMMENT ON COLUMN governance.personas.priority_level IS '1 to 10';
CREATE TRIGGER touch BEFORE UPDATE ON governance.personas FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE governance.agent_sessions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    session_id uuid,
    agent_type text NOT NULL,
    agent_config jsonb DEFAULT '{}' NOT NULL,
    personas_active jsonb DEFAULT '[]' NOT NULL,
    governance_state jsonb DEFAULT '{}' NOT NULL,
    status text DEFAULT 'initializing' NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    error_details jsonb,
    token_cost numeric(10, 4) DEFAULT 0 NOT NULL,
    estimated_cost numeric(10, 4),
    max_cost_limit numeric(10, 4),
    version integer DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT agent_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT agent_sessions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT agent_sessions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT agent_sessions_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT agent_sessions_session_id_tenant_id_fkey FOREIGN KEY (session_id, tenant_id) REFERENCES identity.user_sessions (id, tenant_id) ON DELETE SET NULL (session_id),
    CONSTRAINT agent_sessions_agent_type_check CHECK (length(agent_type) BETWEEN 1 AND 100),
    CONSTRAINT agent_sessions_personas_active_check CHECK (jsonb_typeof(personas_active) = 'array'),
    CONSTRAINT agent_sessions_status_check CHECK (status IN ('initializing', 'pending_approval', 'approved', 'running', 'completed', 'failed', 'cancelled', 'blocked')),
    CONSTRAINT agent_sessions_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT agent_sessions_token_cost_check CHECK (token_cost >= 0),
    CONSTRAINT agent_sessions_estimated_cost_check CHECK (estimated_cost >= 0),
    CONSTRAINT agent_sessions_max_cost_limit_check CHECK (max_cost_limit >= 0)
);
CREATE INDEX agent_sessions_active_idx ON governance.agent_sessions (created_at, status) WHERE status IN ('running', 'pending_approval', 'approved');
CREATE INDEX agent_sessions_completed_at_idx ON governance.agent_sessions (completed_at) WHERE status = 'completed';
CREATE INDEX agent_sessions_cost_idx ON governance.agent_sessions (tenant_id, token_cost);
CREATE INDEX agent_sessions_created_at_idx ON governance.agent_sessions (tenant_id, created_at);
CREATE INDEX agent_sessions_session_id_idx ON governance.agent_sessions (session_id);
CREATE INDEX agent_sessions_status_idx ON governance.agent_sessions (tenant_id, status);
CREATE INDEX agent_sessions_type_idx ON governance.agent_sessions (tenant_id, agent_type);
CREATE INDEX agent_sessions_user_id_idx ON governance.agent_sessions (user_id);
COMMENT ON TABLE governance.agent_sessions IS 'An agent at work for a user, from its start to its end; it runs with an approval only.';
COMMENT ON COLUMN governance.agent_sessions.token_cost IS 'USD, so far';
COMMENT ON COLUMN governance.agent_sessions.estimated_cost IS 'USD, before the start';
COMMENT ON COLUMN governance.agent_sessions.max_cost_limit IS 'USD; none if NULL';
COMMENT ON COLUMN governance.agent_sessions.version IS 'Counts changes; whoever writes it writes the one that was read';
CREATE TRIGGER check_version BEFORE UPDATE ON governance.agent_sessions FOR EACH ROW EXECUTE FUNCTION ops.check_version();
CREATE TRIGGER touch BEFORE UPDATE ON governance.agent_sessions FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE governance.persona_activations (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    agent_session_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    activation_trigger text NOT NULL,
    activation_context jsonb DEFAULT '{}' NOT NULL,
    activated_at timestamptz DEFAULT now() NOT NULL,
    deactivated_at timestamptz,
    results jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_activations_pkey PRIMARY KEY (id),
    CONSTRAINT persona_activations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_activations_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_activations_agent_session_id_tenant_id_fkey FOREIGN KEY (agent_session_id, tenant_id) REFERENCES governance.agent_sessions (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_activations_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES governance.personas (id, tenant_id) ON DELETE NO ACTION,
    CONSTRAINT persona_activations_activation_trigger_check CHECK (length(activation_trigger) BETWEEN 1 AND 100),
    CONSTRAINT persona_activations_deactivated_at_check CHECK (deactivated_at >= activated_at)
);
CREATE INDEX persona_activations_agent_session_id_idx ON governance.persona_activations (agent_session_id);
CREATE INDEX persona_activations_persona_id_idx ON governance.persona_activations (persona_id);
CREATE INDEX persona_activations_tenant_id_activated_at_idx ON governance.persona_activations (tenant_id, activated_at);
COMMENT ON TABLE governance.persona_activations IS 'A persona at work in an agent''s session, from its activation to its end.';
COMMENT ON COLUMN governance.persona_activations.activation_trigger IS 'What called for it';
CREATE TRIGGER touch BEFORE UPDATE ON governance.persona_activations FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE governance.agent_interactions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    agent_session_id uuid NOT NULL,
    persona_id uuid,
    interaction_type text NOT NULL,
    input jsonb DEFAULT '{}' NOT NULL,
    output jsonb,
    input_tokens integer,
    output_tokens integer,
    token_cost numeric(10, 4) DEFAULT 0 NOT NULL,
    duration_ms integer,
    error_details jsonb,
    correlation_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT agent_interactions_pkey PRIMARY KEY (id),
    CONSTRAINT agent_interactions_agent_session_id_tenant_id_fkey FOREIGN KEY (agent_session_id, tenant_id) REFERENCES governance.agent_sessions (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT agent_interactions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT agent_interactions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT agent_interactions_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES governance.personas (id, tenant_id) ON DELETE SET NULL (persona_id),
    CONSTRAINT agent_interactions_interaction_type_check CHECK (length(interaction_type) BETWEEN 1 AND 100),
    CONSTRAINT agent_interactions_input_tokens_check CHECK (input_tokens >= 0),
    CONSTRAINT agent_interactions_output_tokens_check CHECK (output_tokens >= 0),
    CONSTRAINT agent_interactions_token_cost_check CHECK (token_cost >= 0),
    CONSTRAINT agent_interactions_duration_ms_check CHECK (duration_ms >= 0)
);
CREATE INDEX agent_interactions_correlation_id_idx ON governance.agent_interactions (correlation_id);
CREATE INDEX agent_interactions_persona_id_idx ON governance.agent_interactions (persona_id);
CREATE INDEX agent_interactions_session_idx ON governance.agent_interactions (agent_session_id, created_at);
CREATE INDEX agent_interactions_type_idx ON governance.agent_interactions (tenant_id, interaction_type);
COMMENT ON TABLE governance.agent_interactions IS 'One thing said or done in an agent''s session, and what it cost.';
COMMENT ON COLUMN governance.agent_interactions.output IS 'NULL while there is none';
COMMENT ON COLUMN governance.agent_interactions.token_cost IS 'USD';
COMMENT ON COLUMN governance.agent_interactions.duration_ms IS 'Milliseconds';

CREATE TABLE governance.governance_events (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    agent_session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    agent_type text NOT NULL,
    event_type text NOT NULL,
    framework_type text NOT NULL,
    approved boolean NOT NULL,
    validation_context jsonb DEFAULT '{}' NOT NULL,
    decision_details jsonb DEFAULT '{}' NOT NULL,
    decision_reason text,
    fallback_triggered boolean DEFAULT false NOT NULL,
    created_by text,
    correlation_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT governance_events_pkey PRIMARY KEY (id, created_at),
    CONSTRAINT governance_events_id_created_at_tenant_id_key UNIQUE (id, created_at, tenant_id),
    CONSTRAINT governance_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT governance_events_agent_type_check CHECK (length(agent_type) BETWEEN 1 AND 100),
    CONSTRAINT governance_events_event_type_check CHECK (event_type IN ('pre_agent_spawn', 'post_agent_spawn', 'pre_persona_activation', 'post_persona_activation', 'cost_validation', 'consensus_check', 'emergency_stop', 'circuit_breaker')),
    CONSTRAINT governance_events_framework_type_check CHECK (framework_type IN ('sarah_three_questions', 'alex_3am_test', 'consensus', 'emergency')),
    CONSTRAINT governance_events_decision_reason_check CHECK (octet_length(decision_reason) <= 2000),
    CONSTRAINT governance_events_created_by_check CHECK (length(created_by) <= 255)
) PARTITION BY RANGE (created_at);
CREATE INDEX governance_events_approved_idx ON governance.governance_events (tenant_id, approved);
CREATE INDEX governance_events_correlation_idx ON governance.governance_events (correlation_id);
CREATE INDEX governance_events_created_at_idx ON governance.governance_events (tenant_id, created_at);
CREATE INDEX governance_events_framework_idx ON governance.governance_events (tenant_id, framework_type);
CREATE INDEX governance_events_rejected_idx ON governance.governance_events (created_at, decision_reason) WHERE approved = false;
CREATE INDEX governance_events_session_idx ON governance.governance_events (agent_session_id);
CREATE INDEX governance_events_type_idx ON governance.governance_events (tenant_id, event_type);
CREATE INDEX governance_events_user_idx ON governance.governance_events (user_id, created_at);
COMMENT ON TABLE governance.governance_events IS 'A decision about an agent''s session, which it outlives: no foreign key, but a copy of whose it was.';
COMMENT ON COLUMN governance.governance_events.agent_session_id IS 'The session judged, there or gone';
COMMENT ON COLUMN governance.governance_events.user_id IS 'The session''s; a trigger copies it';
COMMENT ON COLUMN governance.governance_events.agent_type IS 'The session''s; a trigger copies it';
COMMENT ON COLUMN governance.governance_events.decision_reason IS 'At most 2,000 bytes: it stands in an index';

CREATE TABLE governance.validation_results (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    event_created_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    validation_type text NOT NULL,
    passed boolean NOT NULL,
    score double precision,
    message text,
    details jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT validation_results_pkey PRIMARY KEY (id, event_created_at),
    CONSTRAINT validation_results_event_id_event_created_at_tenant_id_fkey FOREIGN KEY (event_id, event_created_at, tenant_id) REFERENCES governance.governance_events (id, created_at, tenant_id) ON DELETE CASCADE,
    CONSTRAINT validation_results_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT validation_results_validation_type_check CHECK (length(validation_type) BETWEEN 1 AND 100),
    CONSTRAINT validation_results_score_check CHECK (score BETWEEN 0 AND 1)
) PARTITION BY RANGE (event_created_at);
CREATE INDEX validation_results_event_idx ON governance.validation_results (event_id);
CREATE INDEX validation_results_failed_idx ON governance.validation_results (event_created_at, validation_type) WHERE passed = false;
CREATE INDEX validation_results_type_idx ON governance.validation_results (tenant_id, validation_type);
COMMENT ON TABLE governance.validation_results IS 'What one validation found for a decision; stands in the month of its event and goes with it.';
COMMENT ON COLUMN governance.validation_results.event_created_at IS 'The event''s created_at';
COMMENT ON COLUMN governance.validation_results.validation_type IS 'The question asked or the rule applied';

-- ---------------------------------------------------------------------------------------------------- triggers

-- No session runs without approval: whoever starts one, by INSERT (its approval written before it) or by UPDATE, finds an event
-- that approves it. A session that already runs is left alone, unless it is given another key.
CREATE FUNCTION governance.check_approval() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status = 'running' AND OLD.id = NEW.id AND OLD.tenant_id = NEW.tenant_id THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (
        SELECT FROM governance.governance_events e
        WHERE e.agent_session_id = NEW.id AND e.tenant_id = NEW.tenant_id AND e.approved
            AND e.event_type IN ('pre_agent_spawn', 'consensus_check')
    ) THEN
        RAISE EXCEPTION 'agent session % cannot run without approval', NEW.id USING ERRCODE = '23514',
            CONSTRAINT = 'agent_sessions_approval_check', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'An event pre_agent_spawn or consensus_check approves it.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_approval BEFORE INSERT OR UPDATE ON governance.agent_sessions
    FOR EACH ROW WHEN (NEW.status = 'running') EXECUTE FUNCTION governance.check_approval();

-- An event says for itself whose session it judges. What its writer says counts only where there is no such session: not yet, or
-- not any more.
CREATE FUNCTION governance.copy_session() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    judged record;
BEGIN
    SELECT s.user_id, s.agent_type INTO judged FROM governance.agent_sessions s
    WHERE s.id = NEW.agent_session_id AND s.tenant_id = NEW.tenant_id;
    IF FOUND THEN
        NEW.user_id := judged.user_id;
        NEW.agent_type := judged.agent_type;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER copy_session BEFORE INSERT ON governance.governance_events
    FOR EACH ROW EXECUTE FUNCTION governance.copy_session();

-- ---------------------------------------------------------------------------------------------------- views

CREATE VIEW governance.active_agent_sessions WITH (security_invoker = true) AS
SELECT a.id AS agent_session_id, a.tenant_id, a.user_id, a.agent_type, a.status, a.token_cost, a.created_at,
    (SELECT count(*) FROM governance.governance_events e
        WHERE e.agent_session_id = a.id AND e.tenant_id = a.tenant_id AND e.approved) AS approvals,
    (SELECT count(*) FROM governance.governance_events e
        WHERE e.agent_session_id = a.id AND e.tenant_id = a.tenant_id AND NOT e.approved) AS rejections
FROM governance.agent_sessions a
WHERE a.status IN ('running', 'pending_approval', 'approved');
COMMENT ON VIEW governance.active_agent_sessions IS 'Sessions that run or are about to, with how often each was approved and rejected.';

CREATE VIEW governance.user_activity_summary WITH (security_invoker = true) AS
SELECT u.id AS user_id, u.tenant_id, u.username, u.last_active_at, count(a.id) AS total_sessions, sum(a.token_cost) AS total_cost,
    avg(a.token_cost) AS avg_cost_per_session, max(a.created_at) AS last_session_at
FROM identity.users u
LEFT JOIN governance.agent_sessions a ON a.user_id = u.id AND a.tenant_id = u.tenant_id
WHERE u.is_active AND u.deleted_at IS NULL
GROUP BY u.id, u.tenant_id, u.username, u.last_active_at;
COMMENT ON VIEW governance.user_activity_summary IS 'How much each active user has agents do, and what it costs (USD).';

-- ---------------------------------------------------------------------------------------------------- row security and grants

GRANT USAGE ON SCHEMA governance TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('governance.personas', 'governance.agent_sessions', 'governance.persona_activations',
    'governance.agent_interactions', 'governance.governance_events', 'governance.validation_results');
SELECT ops.bind_to_user('governance.agent_sessions');
SELECT ops.bind_to_user(relation, 'EXISTS (SELECT FROM governance.agent_sessions s '
    'WHERE s.id = agent_session_id AND s.user_id = (SELECT identity.current_user_id()))')
FROM unnest(ARRAY['governance.persona_activations', 'governance.agent_interactions']::regclass[]) AS relation;
SELECT ops.bind_to_user('governance.governance_events');
SELECT ops.bind_to_user('governance.validation_results', 'EXISTS (SELECT FROM governance.governance_events e '
    'WHERE e.id = event_id AND e.created_at = event_created_at AND e.user_id = (SELECT identity.current_user_id()))');
-- A user reads what was decided about their sessions, and decides nothing: a transaction that acts for one writes no event.
CREATE POLICY user_reads_only ON governance.governance_events AS RESTRICTIVE FOR INSERT
    TO greenroom_worker, greenroom_operator, greenroom_reader WITH CHECK ((SELECT identity.current_user_id()) IS NULL);
CREATE POLICY user_reads_only ON governance.validation_results AS RESTRICTIVE FOR INSERT
    TO greenroom_worker, greenroom_operator, greenroom_reader WITH CHECK ((SELECT identity.current_user_id()) IS NULL);
-- What was decided is written once; retention drops it by the month.
REVOKE UPDATE ON governance.governance_events, governance.validation_results FROM greenroom_worker, greenroom_system, greenroom_operator;
REVOKE DELETE ON governance.governance_events, governance.validation_results FROM greenroom_worker, greenroom_operator;
GRANT SELECT ON governance.active_agent_sessions, governance.user_activity_summary
    TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;

SELECT ops.create_months();
