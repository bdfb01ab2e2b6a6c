-- The data model: what tenants use, what they may use and what it costs them (004 names these tables; 003's token usage).

CREATE SCHEMA billing;

CREATE TABLE billing.subscription_plans (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    description text,
    price numeric(12, 2) DEFAULT 0 NOT NULL,
    currency text DEFAULT 'USD' NOT NULL,
    billing_period text DEFAULT 'month' NOT NULL,
    included_limits jsonb DEFAULT '{}' NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT subscription_plans_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_plans_code_key UNIQUE (code),
    CONSTRAINT subscription_plans_code_check CHECK (code ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(code) <= 100),
    CONSTRAINT subscription_plans_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT subscription_plans_price_check CHECK (price >= 0),
    CONSTRAINT subscription_plans_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT subscription_plans_billing_period_check CHECK (billing_period IN ('month', 'year')),
    CONSTRAINT subscription_plans_included_limits_check CHECK (jsonb_typeof(included_limits) = 'object')
);
COMMENT ON TABLE billing.subscription_plans IS 'What tenants may subscribe to: a price and what it includes. Belongs to no tenant.';
COMMENT ON COLUMN billing.subscription_plans.code IS 'What identity.tenants.plan_type says';
COMMENT ON COLUMN billing.subscription_plans.price IS 'For one period';
COMMENT ON COLUMN billing.subscription_plans.currency IS 'ISO 4217';
COMMENT ON COLUMN billing.subscription_plans.included_limits IS 'By metric type, what a period includes';
COMMENT ON COLUMN billing.subscription_plans.is_active IS 'Whether it may be subscribed to';
CREATE TRIGGER touch BEFORE UPDATE ON billing.subscription_plans FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE billing.tenant_quotas (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    metric_type text NOT NULL,
    limit_value bigint NOT NULL,
    period text DEFAULT 'month' NOT NULL,
    enforcement text DEFAULT 'hard' NOT NULL,
    used_value bigint DEFAULT 0 NOT NULL,
    used_since timestamptz,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT tenant_quotas_pkey PRIMARY KEY (id),
    CONSTRAINT tenant_quotas_tenant_id_metric_type_period_key UNIQUE (tenant_id, metric_type, period),
    CONSTRAINT tenant_quotas_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT tenant_quotas_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT tenant_quotas_metric_type_check CHECK (length(metric_type) BETWEEN 1 AND 100),
    CONSTRAINT tenant_quotas_limit_value_check CHECK (limit_value >= 0),
    CONSTRAINT tenant_quotas_period_check CHECK (period IN ('day', 'month', 'total')),
    CONSTRAINT tenant_quotas_enforcement_check CHECK (enforcement IN ('hard', 'soft')),
    CONSTRAINT tenant_quotas_used_value_check CHECK (used_value >= 0)
);
COMMENT ON TABLE billing.tenant_quotas IS 'How much of a metric a tenant may use in a period, and how much it has used of the current one.';
COMMENT ON COLUMN billing.tenant_quotas.metric_type IS 'As in usage_metrics';
COMMENT ON COLUMN billing.tenant_quotas.enforcement IS 'A hard one refuses, a soft one warns';
COMMENT ON COLUMN billing.tenant_quotas.used_value IS 'Of the current period, as last counted';
COMMENT ON COLUMN billing.tenant_quotas.used_since IS 'When the period of used_value began';
CREATE TRIGGER touch BEFORE UPDATE ON billing.tenant_quotas FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE billing.usage_metrics (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    metric_type text NOT NULL,
    metric_value bigint NOT NULL,
    cost numeric(14, 6),
    agent_id uuid,
    user_id uuid,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    recorded_at timestamptz DEFAULT now() NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    CONSTRAINT usage_metrics_pkey PRIMARY KEY (id, period_start),
    CONSTRAINT usage_metrics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT usage_metrics_metric_type_check CHECK (length(metric_type) BETWEEN 1 AND 100),
    CONSTRAINT usage_metrics_metric_value_check CHECK (metric_value >= 0),
    CONSTRAINT usage_metrics_cost_check CHECK (cost >= 0),
    CONSTRAINT usage_metrics_agent_id_tenant_id_fkey FOREIGN KEY (agent_id, tenant_id) REFERENCES assistants.agents (id, tenant_id) ON DELETE SET NULL (agent_id),
    CONSTRAINT usage_metrics_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (user_id),
    CONSTRAINT usage_metrics_period_end_check CHECK (period_end > period_start)
) PARTITION BY RANGE (period_start);
CREATE INDEX usage_metrics_agent_id_idx ON billing.usage_metrics (agent_id);
CREATE INDEX usage_metrics_metric_type_idx ON billing.usage_metrics (tenant_id, metric_type, period_start);
CREATE INDEX usage_metrics_period_idx ON billing.usage_metrics (tenant_id, period_start, period_end);
CREATE INDEX usage_metrics_recorded_at_idx ON billing.usage_metrics (tenant_id, recorded_at DESC);
CREATE INDEX usage_metrics_user_id_idx ON billing.usage_metrics (user_id);
COMMENT ON TABLE billing.usage_metrics IS 'How much of something a tenant used in a period, written once. Outlives the agent and the user it names.';
COMMENT ON COLUMN billing.usage_metrics.metric_type IS 'api_calls, tokens, agent_executions and the like';
COMMENT ON COLUMN billing.usage_metrics.metric_value IS 'A count of what metric_type names';
COMMENT ON COLUMN billing.usage_metrics.cost IS 'USD';

CREATE TABLE billing.billing_records (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    plan_id uuid,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    amount numeric(12, 2) DEFAULT 0 NOT NULL,
    currency text DEFAULT 'USD' NOT NULL,
    status text DEFAULT 'draft' NOT NULL,
    line_items jsonb DEFAULT '[]' NOT NULL,
    issued_at timestamptz,
    due_at timestamptz,
    paid_at timestamptz,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT billing_records_pkey PRIMARY KEY (id),
    CONSTRAINT billing_records_tenant_id_period_start_key UNIQUE (tenant_id, period_start),
    CONSTRAINT billing_records_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT billing_records_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT billing_records_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES billing.subscription_plans (id) ON DELETE RESTRICT,
    CONSTRAINT billing_records_period_end_check CHECK (period_end > period_start),
    CONSTRAINT billing_records_amount_check CHECK (amount >= 0),
    CONSTRAINT billing_records_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT billing_records_status_check CHECK (status IN ('draft', 'open', 'paid', 'void')),
    CONSTRAINT billing_records_line_items_check CHECK (jsonb_typeof(line_items) = 'array'),
    CONSTRAINT billing_records_issued_at_check CHECK (status NOT IN ('open', 'paid') OR issued_at IS NOT NULL),
    CONSTRAINT billing_records_due_at_check CHECK (due_at >= issued_at),
    CONSTRAINT billing_records_paid_at_check CHECK ((paid_at IS NOT NULL) = (status = 'paid'))
);
CREATE INDEX billing_records_plan_id_idx ON billing.billing_records (plan_id);
CREATE INDEX billing_records_status_idx ON billing.billing_records (tenant_id, status);
COMMENT ON TABLE billing.billing_records IS 'What a tenant owes for a period.';
COMMENT ON COLUMN billing.billing_records.amount IS 'The sum of its items';
COMMENT ON COLUMN billing.billing_records.currency IS 'ISO 4217';
COMMENT ON COLUMN billing.billing_records.line_items IS 'Description, metric type, quantity, amount of each';
CREATE TRIGGER touch BEFORE UPDATE ON billing.billing_records FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- Tokens and their estimated cost of the last 30 days, by user (003): of the personas that are the user's, and of agents that the
-- user talked to. What a model reported goes before what was counted.
CREATE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS
SELECT u.tenant_id, u.id AS user_id, u.email, sum(t.tokens)::bigint AS total_tokens, sum(t.tokens) * 0.00002 AS estimated_cost_usd
FROM assistants.messages m
JOIN assistants.conversations c ON c.id = m.conversation_id AND c.tenant_id = m.tenant_id
LEFT JOIN assistants.voice_personas p ON p.id = c.persona_id AND p.tenant_id = c.tenant_id
JOIN identity.users u ON u.id = COALESCE(p.user_id, c.user_id) AND u.tenant_id = c.tenant_id
CROSS JOIN LATERAL (
    SELECT CASE jsonb_typeof(m.tokens_used->'total') WHEN 'number' THEN (m.tokens_used->>'total')::numeric ELSE m.token_count END AS tokens
) AS t
WHERE m.created_at > now() - interval '30 days' AND t.tokens IS NOT NULL
GROUP BY u.tenant_id, u.id, u.email;
COMMENT ON VIEW billing.token_usage_by_user IS 'Tokens and their estimated cost in USD of the last 30 days, by user.';

-- ---------------------------------------------------------------------------------------------------- partitions, row security and grants

SELECT ops.create_months();
-- What a month used to its end is recorded in the next one.
SELECT ops.create_month('billing.usage_metrics', now() - interval '1 month');
GRANT USAGE ON SCHEMA billing TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('billing.tenant_quotas', 'billing.usage_metrics', 'billing.billing_records');
GRANT SELECT ON billing.subscription_plans, billing.token_usage_by_user
    TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON billing.subscription_plans TO greenroom_operator;
