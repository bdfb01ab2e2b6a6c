-- Tenants are the owner's to write, a deleted one is nobody's to erase, and nothing looks a key up.

DROP FUNCTION identity.find_session, identity.find_api_key;
REVOKE INSERT (name, slug, status, plan_type, max_agents, max_daily_requests, max_monthly_tokens, contact_email, contact_name,
    settings, metadata) ON identity.tenants FROM greenroom_operator;
REVOKE UPDATE (name, slug, status, plan_type, max_agents, max_daily_requests, max_monthly_tokens, contact_email, contact_name,
    settings, metadata) ON identity.tenants FROM greenroom_operator;
DROP POLICY operator_changes ON identity.tenants;
DROP POLICY operator_adds ON identity.tenants;

DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('audit.log_change'::regproc),
        $q$    IF TG_OP = 'DELETE' AND relation <> 'identity.tenants'::regclass
        AND EXISTS (SELECT FROM identity.tenants t WHERE t.id = tenant AND t.status = 'deleted') THEN
        RETURN NULL;
    END IF;
$q$, '');
    EXECUTE replace(pg_get_functiondef('audit.refuse_change'::regproc),
        $q$    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status = 'deleted') THEN
            RETURN OLD;
        END IF;
    END IF;
$q$, '');
END
$$;

DROP TRIGGER erase_deleted ON identity.tenants;
DROP TRIGGER check_life ON identity.tenants;
DROP FUNCTION ops.remove_tenant, ops.empty_tenant, ops.erase_page, identity.erase_deleted, identity.check_life, ops.tenant_hold,
    ops.tenant_leftover, ops.tenant_tables;
