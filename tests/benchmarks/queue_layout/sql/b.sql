-- Layout B: two tables behind a view with an INSTEAD OF trigger.

-- name: schema
CREATE TABLE tasks_live (
    LIKE task_columns INCLUDING DEFAULTS,
    PRIMARY KEY (id),
    CHECK (status IN ('pending', 'in_progress'))
);
CREATE TABLE tasks_history (
    LIKE task_columns INCLUDING DEFAULTS,
    CHECK (status IN ('done', 'failed', 'cancelled')),
    CHECK (completed_at IS NOT NULL)
) PARTITION BY RANGE (completed_at);
CREATE VIEW outbox_tasks WITH (security_invoker = true) AS
    SELECT * FROM tasks_live UNION ALL SELECT * FROM tasks_history;
CREATE FUNCTION outbox_tasks_insert() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    -- The trigger cannot see whether the caller said ON CONFLICT, so it never raises.
    INSERT INTO tasks_live (id, tenant_id, rank, run_after, priority, max_attempts, is_due,
                            task_type, queue, payload, unique_key)
    VALUES (coalesce(NEW.id, uuidv7()),
            coalesce(NEW.tenant_id, '00000000-0000-0000-0000-000000000000'),
            coalesce(NEW.rank, (extract(epoch FROM now()) * 1000000)::bigint),
            coalesce(NEW.run_after, now()), coalesce(NEW.priority, 0),
            coalesce(NEW.max_attempts, 5), coalesce(NEW.is_due, true), NEW.task_type,
            coalesce(NEW.queue, 'default'), coalesce(NEW.payload, '{{}}'), NEW.unique_key)
    ON CONFLICT DO NOTHING
    RETURNING id INTO NEW.id;
    RETURN CASE WHEN FOUND THEN NEW END;
END $body$;
CREATE TRIGGER outbox_tasks_insert INSTEAD OF INSERT ON outbox_tasks
    FOR EACH ROW EXECUTE FUNCTION outbox_tasks_insert();

-- name: history_indexes
CREATE INDEX ON tasks_history (id);
CREATE INDEX ON tasks_history (completed_at) WHERE status = 'failed';

-- name: policies
ALTER TABLE tasks_live ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks_live FORCE ROW LEVEL SECURITY;
ALTER TABLE tasks_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks_history FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON tasks_live USING (true);
CREATE POLICY everyone ON tasks_history USING (true);
CREATE POLICY tenant ON tasks_live AS RESTRICTIVE
    USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
CREATE POLICY tenant ON tasks_history AS RESTRICTIVE
    USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
