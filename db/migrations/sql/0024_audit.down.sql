-- What changes is not noted any more; what was noted goes.

DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t
            WHERE t.tgparentid = 0 AND t.tgfoid IN ('audit.log_change'::regproc, 'audit.log_cleanup'::regproc) LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.relation);
    END LOOP;
END
$$;
DROP TABLE audit.audit_log;
DROP FUNCTION audit.log_change, audit.log_cleanup, audit.refuse_change, audit.session_actor, audit.session_correlation_id;

COMMENT ON TABLE audit.audit_events IS NULL;
COMMENT ON COLUMN audit.audit_events.event_type IS NULL;
COMMENT ON COLUMN audit.audit_events.actor IS NULL;

CREATE OR REPLACE FUNCTION ops.create_month(parent regclass, moment timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    first CONSTANT timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    next CONSTANT timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    schema CONSTANT text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = parent);
    leaf CONSTANT text := (SELECT relname FROM pg_class WHERE oid = parent) || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
    key CONSTANT text := substring(pg_get_partkeydef(parent) FROM '\((.*)\)');
BEGIN
    IF to_regclass(format('%I.%I', schema, leaf)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', schema, leaf, parent);
    EXECUTE format('ALTER TABLE %I.%I ADD CONSTRAINT within_month CHECK (%I IS NOT NULL AND %I >= %L AND %I < %L)',
        schema, leaf, key, key, first, key, next);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY', schema, leaf);
    EXECUTE format('CREATE POLICY owner_passes ON %I.%I TO CURRENT_USER USING (true) WITH CHECK (true)', schema, leaf);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, schema, leaf, first, next);
    EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT within_month', schema, leaf);
    RETURN leaf;
END
$$;
