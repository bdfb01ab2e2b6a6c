-- Back to tenants alone. Users, their sessions and keys go.

DROP TABLE identity.cross_region_sync_logs, identity.replication_status, identity.tenant_regions, identity.regions, identity.operators,
    identity.api_keys, identity.session_activities, identity.user_sessions, identity.sessions, identity.users;
COMMENT ON TABLE identity.tenants IS NULL;

CREATE OR REPLACE FUNCTION queue.create_months() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(queue.create_month(parent::regclass, now() + make_interval(months => ahead)))::integer
    FROM unnest(ARRAY['queue.tasks_history', 'queue.attempts']) AS parent, generate_series(0, 2) AS ahead
$$;
DROP FUNCTION ops.check_version, ops.create_months, ops.create_month, ops.bind_to_user, ops.bind_to_tenant, identity.current_user_id;
