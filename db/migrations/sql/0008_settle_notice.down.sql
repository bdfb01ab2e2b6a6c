-- Back to one ring for all, by those who add.

-- Ring only when a relay sleeps: NOTIFY takes a lock of the whole database at commit and would serialise producers.
CREATE FUNCTION queue.ring_sleepers() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM queue.processes WHERE is_sleeping) THEN
        PERFORM pg_notify('greenroom_wake', '');
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION queue.note_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO queue.settlements (task_id, batch_id) VALUES (OLD.id, OLD.batch_id);
    PERFORM queue.ring_sleepers();
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
    PERFORM queue.ring_sleepers();
    RETURN true;
END
$$;

DROP TRIGGER ring_settlers ON queue.settlements;
DROP FUNCTION queue.ring_settlers();
