-- Whether a version is made of a stored file: whoever removes one asks for each, and read all texts of all tenants.
CREATE INDEX document_texts_file_path_idx ON knowledge.document_texts (file_path);
-- A tenant's documents newest first, a page at a time; and by the name that a command is given.
CREATE INDEX documents_tenant_id_id_idx ON knowledge.documents (tenant_id, id);
CREATE INDEX documents_name_idx ON knowledge.documents (name, tenant_id);
-- What has been over for long is forgotten at each look.
CREATE INDEX alerts_resolved_at_idx ON queue.alerts (resolved_at) WHERE state = 'resolved';

-- ---------------------------------------------------------------------------------------------------- retention

-- What a policy's filter says of texts, as SQL over r0 that partial indexes understand; NULL where it says nothing of any.
CREATE FUNCTION ops.filter_condition(relation regclass, filter jsonb) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('r0.%I = %L', f.key, f.value #>> '{}'), ' AND ' ORDER BY f.key)
    FROM jsonb_each(filter) f JOIN pg_attribute a ON a.attrelid = relation AND a.attname = f.key AND a.attnum > 0
    WHERE a.atttypid = 'text'::regtype AND jsonb_typeof(f.value) = 'string'
$$;
COMMENT ON FUNCTION ops.filter_condition IS 'What a policy says of texts, as SQL over r0: by the JSON of a row alone, no index is used.';
REVOKE EXECUTE ON FUNCTION ops.filter_condition FROM PUBLIC;

DO $$
DECLARE
    known text := pg_get_functiondef('ops.run_retention'::regproc);
    changed text := replace(known, $q$'r0.%I < %L AND to_jsonb(r0) @> %L', policy.age_column, cutoff,$q$,
        $q$'r0.%I < %L AND %s AND to_jsonb(r0) @> %L', policy.age_column, cutoff, COALESCE(ops.filter_condition(relation, policy.filter), 'true'),$q$);
BEGIN
    ASSERT changed <> known, 'ops.run_retention does not look at its filter';
    EXECUTE changed;
END
$$;

-- ---------------------------------------------------------------------------------------------------- views

-- As before, but each conversation's user is looked up by a column and not by COALESCE: an expression that is not known to be
-- leakproof is compared after row security, by no index, and each message with all users of its tenant.
CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS
SELECT u.tenant_id, u.id AS user_id, u.email, sum(said.tokens)::bigint AS total_tokens, sum(said.tokens) * 0.00002 AS estimated_cost_usd
FROM (
    SELECT m.tenant_id, m.conversation_id, sum(t.tokens) AS tokens FROM assistants.messages m
    CROSS JOIN LATERAL (
        SELECT CASE jsonb_typeof(m.tokens_used->'total') WHEN 'number' THEN (m.tokens_used->>'total')::numeric ELSE m.token_count END AS tokens
    ) AS t
    WHERE m.created_at > now() - interval '30 days' AND t.tokens IS NOT NULL
    GROUP BY m.tenant_id, m.conversation_id
) AS said
-- fenced: a tenant is taken for small, and its conversations would be gone through for each that is summed
CROSS JOIN LATERAL (
    SELECT c.tenant_id, COALESCE((
        SELECT p.user_id FROM assistants.voice_personas p WHERE p.id = c.persona_id AND p.tenant_id = c.tenant_id), c.user_id) AS user_id
    FROM assistants.conversations c WHERE c.id = said.conversation_id AND c.tenant_id = said.tenant_id OFFSET 0
) AS held
CROSS JOIN LATERAL (
    SELECT u.tenant_id, u.id, u.email FROM identity.users u WHERE u.id = held.user_id AND u.tenant_id = held.tenant_id OFFSET 0
) AS u
GROUP BY u.tenant_id, u.id, u.email;
