-- Whoever adds to queue.settlements rings those who settle, and nobody else; an enqueue rings those who claim. A batch calls back
-- with no task that its opener may not enqueue.

CREATE FUNCTION queue.ring_settlers() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', 'settle');
    END IF;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION queue.ring_settlers FROM PUBLIC;
CREATE TRIGGER ring_settlers AFTER INSERT ON queue.settlements FOR EACH STATEMENT EXECUTE FUNCTION queue.ring_settlers();

CREATE OR REPLACE FUNCTION queue.note_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO queue.settlements (task_id, batch_id) VALUES (OLD.id, OLD.batch_id);
    RETURN NULL;
END
$$;

-- Close a batch: it takes no more tasks, and ends with its last member. Waits for whoever is adding to it. False: it was closed.
CREATE OR REPLACE FUNCTION queue.close_batch(batch uuid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held queue.batches;
BEGIN
    SELECT * INTO held FROM queue.batches b WHERE b.id = batch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no batch has the id %', batch USING ERRCODE = 'GR003', HINT = 'A batch takes tasks of its own tenant.';
    END IF;
    PERFORM queue.check_tenant(held.tenant_id);
    IF held.closed_at IS NOT NULL THEN
        RETURN false;
    END IF;
    UPDATE queue.batches SET closed_at = now() WHERE id = batch;
    INSERT INTO queue.settlements (batch_id) VALUES (batch);
    RETURN true;
END
$$;

DROP FUNCTION queue.ring_sleepers();

-- Refuse a tenant, or none, that the caller may not enqueue for.
CREATE OR REPLACE FUNCTION queue.check_tenant(tenant uuid) RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound uuid := identity.current_tenant_id();
BEGIN
    IF bound <> tenant OR tenant IS DISTINCT FROM COALESCE(bound, identity.default_tenant_id())
        -- one that may SET ROLE is one too
        AND (pg_has_role(session_user, 'greenroom_producer', 'USAGE') OR pg_has_role(session_user, 'greenroom_producer', 'SET'))
        AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN
        RAISE EXCEPTION 'this transaction is not bound to the tenant of the task' USING ERRCODE = 'GR003',
            HINT = 'Set app.current_tenant_id for the transaction; tasks of scope system are not for producers.';
    END IF;
END
$$;

-- Open a batch. `callbacks`: on_done (all members are done), on_failed (the first failed or was cancelled), on_ended (all have
-- ended), each {"task_type": …, "payload": …}, which are checked as an enqueue checks them. `tenant_id` as in an enqueue.
CREATE OR REPLACE FUNCTION queue.open_batch(name text, callbacks jsonb DEFAULT '{}', tenant_id uuid DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := COALESCE(open_batch.tenant_id, identity.current_tenant_id(), identity.default_tenant_id());
    event text;
    callback jsonb;
    known queue.task_types;
    problem text;
    made uuid;
BEGIN
    PERFORM queue.check_tenant(tenant);
    IF queue.tenant_status(tenant) IS NULL THEN
        RAISE EXCEPTION 'unknown tenant %', tenant USING ERRCODE = 'GR003';
    END IF;
    IF length(name) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'a batch''s name has 1 to 200 characters' USING ERRCODE = 'GR003';
    END IF;
    FOR event, callback IN SELECT * FROM jsonb_each(callbacks) LOOP
        IF event NOT IN ('on_done', 'on_failed', 'on_ended') THEN
            RAISE EXCEPTION 'unknown callback %: known are on_done, on_failed and on_ended', event USING ERRCODE = 'GR003';
        END IF;
        known := queue.task_type(callback->>'task_type');
        IF known.name IS NULL THEN
            RAISE EXCEPTION 'unknown task type %', callback->>'task_type' USING ERRCODE = 'GR001';
        END IF;
        -- whoever may not enqueue it has nobody else do so
        IF known.scope = 'system' THEN
            PERFORM queue.check_tenant(NULL);
        END IF;
        problem := queue.payload_error(known, callback->'payload');
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION 'invalid payload for %: %', known.name, problem USING ERRCODE = 'GR002';
        END IF;
    END LOOP;
    INSERT INTO queue.batches (tenant_id, name, on_done, on_failed, on_ended)
    VALUES (tenant, name, callbacks->'on_done', callbacks->'on_failed', callbacks->'on_ended') RETURNING id INTO made;
    RETURN made;
END
$$;
