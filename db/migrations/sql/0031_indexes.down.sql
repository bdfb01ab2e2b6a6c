-- Queries go back to what they read before.

DROP INDEX knowledge.document_texts_file_path_idx, knowledge.documents_tenant_id_id_idx, knowledge.documents_name_idx,
    queue.alerts_resolved_at_idx;

DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('ops.run_retention'::regproc),
        $q$'r0.%I < %L AND %s AND to_jsonb(r0) @> %L', policy.age_column, cutoff, COALESCE(ops.filter_condition(relation, policy.filter), 'true'),$q$,
        $q$'r0.%I < %L AND to_jsonb(r0) @> %L', policy.age_column, cutoff,$q$);
END
$$;
DROP FUNCTION ops.filter_condition;

CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS
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
