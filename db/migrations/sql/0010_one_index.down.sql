-- Back to joins that leave the planner other indexes, too.

CREATE OR REPLACE FUNCTION queue.pause_key(key text, seconds double precision) RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO queue.limits AS known (kind, name, paused_until)
    VALUES ('key', key, clock_timestamp() + make_interval(secs => LEAST(GREATEST(seconds, 0), 3600)))
    ON CONFLICT (kind, name) DO UPDATE SET paused_until = GREATEST(known.paused_until, EXCLUDED.paused_until);
    UPDATE queue.tasks_live SET claimed_until = NULL, updated_at = now() WHERE id IN (
        SELECT id FROM queue.tasks_live
        WHERE claimed_until IS NOT NULL AND limit_key = key AND status = 'pending' FOR UPDATE SKIP LOCKED);
$$;

CREATE OR REPLACE FUNCTION queue.depend_on(children uuid[], parents uuid[], tenant uuid, policy text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing uuid;
BEGIN
    SELECT p.id INTO missing FROM unnest(parents) AS p (id)
    WHERE NOT EXISTS (SELECT FROM queue.tasks_live t WHERE t.id = p.id AND (tenant IS NULL OR t.tenant_id = tenant))
        AND NOT EXISTS (SELECT FROM queue.tasks_history t WHERE t.id = p.id AND (tenant IS NULL OR t.tenant_id = tenant)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'depends_on names a task that does not exist: %', missing USING ERRCODE = 'GR003',
            HINT = 'A task waits for tasks of its own tenant, live ones or ended ones that history still has.';
    END IF;
    INSERT INTO queue.task_dependencies (child_id, parent_id, tenant_id, on_parent_failed)
    SELECT c.id, p.id, tenant, policy FROM unnest(children) AS c (id), unnest(parents) AS p (id) ON CONFLICT DO NOTHING;
    INSERT INTO queue.settlements (task_id) SELECT DISTINCT p.id FROM unnest(parents) AS p (id);
END
$$;

CREATE OR REPLACE FUNCTION queue.check_circle(child uuid, parents uuid[]) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7216335408823);
    IF child = ANY (parents) THEN
        RAISE EXCEPTION 'the task % would wait for itself', child USING ERRCODE = 'GR003';
    END IF;
    IF EXISTS (
        WITH RECURSIVE above (id) AS (
            SELECT unnest(parents)
            UNION
            SELECT d.parent_id FROM above JOIN queue.task_dependencies d ON d.child_id = above.id AND d.parent_status IS NULL
        )
        SELECT FROM above WHERE id = child
    ) THEN
        RAISE EXCEPTION 'the task % would wait for itself in a circle', child USING ERRCODE = 'GR003';
    END IF;
END
$$;

ALTER FUNCTION queue.key_holders(text, uuid) RESET enable_seqscan;
ALTER FUNCTION queue.enqueue_keyed(queue.tasks_live, jsonb, uuid[]) RESET enable_seqscan;
