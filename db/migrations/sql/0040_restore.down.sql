-- Triggers fire as before.
DO $$
DECLARE
    known text;
BEGIN
    FOR known IN
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t
        WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND strpos(pg_get_triggerdef(t.oid), 'ops.is_restoring()') > 0
    LOOP
        EXECUTE replace(replace(regexp_replace(known, ' WHEN \(\((.*) AND \(NOT ops\.is_restoring\(\)\)\)\) EXECUTE', ' WHEN (\1) EXECUTE'),
            ' WHEN ((NOT ops.is_restoring()))', ''), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
    END LOOP;
END
$$;
DROP FUNCTION ops.restore_page, ops.restore_month, ops.restoring_links, ops.cleared_columns, ops.restoring_rows, ops.orphan_case,
    ops.restorable_columns;
DROP FUNCTION ops.is_restoring, ops.may_restore;
