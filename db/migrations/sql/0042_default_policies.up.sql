-- What goes by default: policies of the designs, the indexes that they go by, and how long a task may be pending.

-- ---------------------------------------------------------------------------------------------------- tasks

-- None lets its tasks wait for as long as it takes: a backlog is work. One that a user waits for is asked for again (003).
ALTER TABLE queue.task_types ADD COLUMN pending_limit interval,
    ADD CONSTRAINT task_types_pending_limit_check CHECK (pending_limit > interval '0');
COMMENT ON COLUMN queue.task_types.pending_limit IS 'For which a task may be pending without a sign of life';

-- ---------------------------------------------------------------------------------------------------- indexes

-- Of rows that are deleted there are few, and those that live are in none of these.
CREATE INDEX agents_deleted_at_idx ON assistants.agents (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX conversations_deleted_at_idx ON assistants.conversations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX workflows_deleted_at_idx ON assistants.workflows (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX users_deleted_at_idx ON identity.users (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX collections_deleted_at_idx ON knowledge.collections (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX documents_deleted_at_idx ON knowledge.documents (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX mcp_servers_deleted_at_idx ON tools.mcp_servers (deleted_at) WHERE deleted_at IS NOT NULL;
-- Which keys are to be marked as expired, and which of the expired ones are to go.
CREATE INDEX api_keys_status_expires_at_idx ON identity.api_keys (status, expires_at);

-- ---------------------------------------------------------------------------------------------------- servers in use

-- As before, and what purges deleted servers passes over one that other tenants have configured: it goes when they have not.
DO $$
DECLARE
    known text := pg_get_functiondef('tools.keep_used_server'::regproc);
    changed text := replace(known, $q$    THEN
        RAISE$q$, $q$    THEN
        IF TG_OP = 'DELETE' AND OLD.deleted_at IS NOT NULL AND audit.is_erasing() THEN
            RETURN NULL;
        END IF;
        RAISE$q$);
BEGIN
    ASSERT changed <> known, 'tools.keep_used_server is another one';
    EXECUTE changed;
END
$$;

-- ---------------------------------------------------------------------------------------------------- policies

-- What a design leaves open ("if needed", by setting) stands here switched off. An operator's own policy of the same rows stands.
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, is_enabled, most_share, source, description)
SELECT name, table_schema, table_name, age_column, age::interval, filter::jsonb, action,
    -- one filter more of a table may contradict what an operator has of it
    is_enabled AND (filter = '{}' OR NOT EXISTS (SELECT FROM ops.retention_policies p
        WHERE (p.table_schema, p.table_name) = (given.table_schema, given.table_name) AND p.is_enabled AND p.tenant_id IS NULL
            AND p.filter <> '{}')),
    most_share, source, description
FROM (VALUES
    ('api-keys', 'identity', 'api_keys', 'expires_at', '90 days', '{"status": "expired"}', 'delete', true, 0.9, '004',
        'API keys that have expired'),
    ('deleted-users', 'identity', 'users', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted users, with all that is theirs'),
    ('deleted-agents', 'assistants', 'agents', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted agents, with their runs and conversations'),
    ('deleted-conversations', 'assistants', 'conversations', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted conversations, with their messages'),
    ('deleted-workflows', 'assistants', 'workflows', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted workflows, with their executions'),
    ('deleted-collections', 'knowledge', 'collections', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted collections, with their documents'),
    ('deleted-documents', 'knowledge', 'documents', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted documents, with their texts, chunks and vectors'),
    ('deleted-persons', 'people', 'persons', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted persons, with all that was learnt of them'),
    ('deleted-mcp-servers', 'tools', 'mcp_servers', 'deleted_at', '30 days', '{}', 'delete', true, 0.5, '004',
        'Deleted MCP servers, but for those that other tenants have configured'),
    ('rag-queries', 'knowledge', 'rag_queries', 'created_at', '1 year', '{}', 'delete', false, 0.5, '004',
        'What was searched for'),
    ('usage-metrics', 'billing', 'usage_metrics', 'period_start', '3 years', '{}', 'drop_partition', false, 0.5, '004',
        'Measures of usage, by whole months')
) AS given (name, table_schema, table_name, age_column, age, filter, action, is_enabled, most_share, source, description)
ON CONFLICT DO NOTHING;

-- After a month in which nobody was there, all of them are old.
UPDATE ops.retention_policies SET most_share = 0.9 WHERE name = 'health-metrics' AND source = '000' AND most_share = 0.5;
