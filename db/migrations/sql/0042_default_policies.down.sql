UPDATE ops.retention_policies SET most_share = 0.5 WHERE name = 'health-metrics' AND source = '000' AND most_share = 0.9;
DELETE FROM ops.retention_policies WHERE source = '004' AND name IN ('api-keys', 'deleted-users', 'deleted-agents', 'deleted-conversations',
    'deleted-workflows', 'deleted-collections', 'deleted-documents', 'deleted-persons', 'deleted-mcp-servers', 'rag-queries', 'usage-metrics');

DO $$
DECLARE
    known text := pg_get_functiondef('tools.keep_used_server'::regproc);
    changed text := replace(known, $q$        IF TG_OP = 'DELETE' AND OLD.deleted_at IS NOT NULL AND audit.is_erasing() THEN
            RETURN NULL;
        END IF;
$q$, '');
BEGIN
    ASSERT changed <> known, 'tools.keep_used_server is another one';
    EXECUTE changed;
END
$$;

DROP INDEX identity.api_keys_status_expires_at_idx;
DROP INDEX tools.mcp_servers_deleted_at_idx;
DROP INDEX knowledge.documents_deleted_at_idx;
DROP INDEX knowledge.collections_deleted_at_idx;
DROP INDEX identity.users_deleted_at_idx;
DROP INDEX assistants.workflows_deleted_at_idx;
DROP INDEX assistants.conversations_deleted_at_idx;
DROP INDEX assistants.agents_deleted_at_idx;

ALTER TABLE queue.task_types DROP CONSTRAINT task_types_pending_limit_check, DROP COLUMN pending_limit;
