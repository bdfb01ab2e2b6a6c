-- Whoever adds to queue.settlements rings those who settle, and nobody else; an enqueue rings those who claim.

CREATE FUNCTION queue.ring_settlers() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', 'settle');
    END IF;
    RETURN NULL;
END
$$;
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
