DO $$
DECLARE
    emptying CONSTANT text := pg_get_functiondef('ops.empty_archive'::regproc);
    emptied CONSTANT text := replace(emptying, $q$, set_config('app.archiving', 'on', true)$q$, '');
    finding CONSTANT text := pg_get_functiondef('ops.tenant_tables'::regproc);
    found CONSTANT text := replace(finding, $q$ AND c.oid <> 'ops.archives'::regclass$q$, '');
BEGIN
    ASSERT emptied <> emptying, 'ops.empty_archive is another one';
    ASSERT found <> finding, 'ops.tenant_tables is another one';
    EXECUTE emptied;
    EXECUTE found;
END
$$;

DROP FUNCTION ops.keep_holds(text[]);
DROP FUNCTION ops.holds_on(text[]);
DROP FUNCTION ops.hold_archived(text, name[], jsonb);
DROP FUNCTION ops.hash_archived(text, name[], jsonb);
DROP FUNCTION ops.archived_rows(text, name[]);
DROP INDEX ops.archives_writing_idx;

DROP FUNCTION ops.await_deletions();
DROP TRIGGER forget_deleted ON identity.users;
DROP TRIGGER forget_deleted ON people.persons;
DROP TRIGGER forget_deleted ON assistants.clients;
DROP TRIGGER forget_deleted ON assistants.personas;
DROP TRIGGER forget_deleted ON knowledge.documents;
DROP FUNCTION ops.forget_deleted();

CREATE OR REPLACE FUNCTION ops.archive_subjects_of(relation regclass, alias text, depth integer DEFAULT 0) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kinds CONSTANT text := $q$('tenant', 'user', 'person', 'client', 'persona', 'document')$q$;
    above CONSTANT text := 's' || depth + 1;
    said text[] := ARRAY(SELECT CASE WHEN c.kind IS NULL
            THEN format('CASE WHEN %1$I.%2$I IN %4$s THEN %1$I.%2$I || '':'' || %1$I.%3$I END', alias, c.kind_column, c.column_name, kinds)
            ELSE format('%L || %I.%I', c.kind || ':', alias, c.column_name) END
        FROM ops.subject_columns(relation) c
        WHERE depth = 0 OR c.kind <> 'tenant' AND c.column_name = c.kind || '_id'); -- who made a tool is not who used it
    key record;
    inner_said text;
BEGIN
    FOR key IN SELECT k.confrelid::regclass AS relation, (SELECT string_agg(format('%I.%I = %I.%I', above, p.attname, alias, c.attname), ' AND ')
            FROM unnest(k.conkey, k.confkey) AS u (child, parent) JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
            JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent) AS refers
        FROM pg_constraint k WHERE k.conrelid = archive_subjects_of.relation AND k.contype = 'f' AND depth < 2
            AND k.confrelid <> k.conrelid AND NOT (SELECT c.relispartition FROM pg_class c WHERE c.oid = k.confrelid)
            AND k.confrelid NOT IN ('identity.tenants'::regclass, 'identity.users'::regclass,
                'people.persons'::regclass, 'assistants.clients'::regclass, 'assistants.personas'::regclass, 'knowledge.documents'::regclass)
        ORDER BY k.conname LOOP
        inner_said := ops.archive_subjects_of(key.relation, above, depth + 1);
        IF inner_said IS NOT NULL THEN
            said := said || format('(SELECT %s FROM %s %s WHERE %s)', inner_said, key.relation, above, key.refers);
        END IF;
    END LOOP;
    RETURN 'concat_ws('' '', ' || NULLIF(array_to_string(said, ', '), '') || ')';
END
$$;
