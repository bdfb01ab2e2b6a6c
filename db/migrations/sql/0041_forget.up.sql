-- Erasure reaches the archives: each archived row says what becomes of it when somebody goes, whoever is deleted is forgotten there too,
-- and nothing that is being archived at that moment is missed.

-- ---------------------------------------------------------------------------------------------------- whose a row is

-- As 0039 has it, but that a name says what the erasure of whom it names makes of the row. A tenant's, a person's and a client's rows go
-- with them. Of the others `-user:…` says that the row goes, as a cascade would take it, over any number of tables; `~user:…` that it is
-- emptied of the name, as SET NULL does, and as identity.erase_user does with what the log of changes holds of a user; `user:…` that it
-- stays, since it says who did something.
CREATE OR REPLACE FUNCTION ops.archive_subjects_of(relation regclass, alias text, depth integer DEFAULT 0) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kinds CONSTANT text := $q$('tenant', 'user', 'person', 'client', 'persona', 'document')$q$;
    above CONSTANT text := 's' || depth + 1;
    said text[] := ARRAY(SELECT CASE WHEN c.kind IS NULL
            THEN format('CASE WHEN %1$I.%2$I IN %4$s THEN %1$I.%2$I || '':'' || %1$I.%3$I END', alias, c.kind_column, c.column_name, kinds)
            ELSE format('%L || %I.%I', f.fate || c.kind || ':', alias, c.column_name) END
        FROM ops.subject_columns(relation) c CROSS JOIN LATERAL (
            SELECT CASE WHEN c.kind IN ('tenant', 'person', 'client') THEN '' WHEN c.column_name = 'id' THEN '-' ELSE COALESCE(max(
                CASE WHEN k.confdeltype IN ('n', 'd') THEN '~' ELSE '-' END), '') END AS fate
            FROM pg_attribute a JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)
            WHERE a.attrelid = relation AND a.attname = c.column_name
        ) AS f
        WHERE depth = 0 OR c.column_name <> 'id' AND (f.fate = '-' OR c.kind IN ('person', 'client')));
    key record;
    inner_said text;
BEGIN
    IF relation = 'audit.audit_log'::regclass THEN
        said := array_append(said, format($q$(SELECT string_agg('~user:' || n.id, ' ')
            FROM unnest(ARRAY[CASE WHEN (%1$I.table_schema, %1$I.table_name) = ('identity', 'users') THEN %1$I.record_id END,
                %1$I.old_values ->> 'user_id', %1$I.new_values ->> 'user_id',
                %1$I.old_values ->> 'owner_id', %1$I.new_values ->> 'owner_id']) AS n (id)
            WHERE num_nonnulls(%1$I.old_values, %1$I.new_values) > 0 AND pg_input_is_valid(n.id, 'uuid')
                AND (%1$I.table_schema, %1$I.table_name) <> ('governance', 'governance_events'))$q$, alias));
    END IF;
    FOR key IN SELECT k.confrelid::regclass AS relation, (SELECT string_agg(format('%I.%I = %I.%I', above, p.attname, alias, c.attname), ' AND ')
            FROM unnest(k.conkey, k.confkey) AS u (child, parent) JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
            JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent) AS refers
        FROM pg_constraint k WHERE k.conrelid = archive_subjects_of.relation AND k.contype = 'f' AND k.confdeltype = 'c' AND k.conparentid = 0
            AND k.confrelid <> k.conrelid AND k.confrelid <> 'identity.tenants'::regclass AND depth < 5
        ORDER BY k.conname LOOP
        inner_said := ops.archive_subjects_of(key.relation, above, depth + 1);
        IF inner_said IS NOT NULL THEN
            said := said || format('(SELECT %s FROM %s %s WHERE %s)', inner_said, key.relation, above, key.refers);
        END IF;
    END LOOP;
    RETURN 'concat_ws('' '', ' || NULLIF(array_to_string(said, ', '), '') || ')';
END
$$;

-- ---------------------------------------------------------------------------------------------------- who is deleted

-- Whoever is deleted, by whatever statement and however far down a cascade, is forgotten by the archives that hold rows of them. A part
-- that is being written says whose it is at its end only: the task waits for it. A lock that each such deletion shares to its end lets an
-- archive wait for those that came before it (ops.await_deletions). What retention archives is to stay there, and of a deleted tenant
-- all goes by the task tenant.erase.
CREATE FUNCTION ops.forget_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF audit.is_erasing() AND current_setting('app.archiving', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('ops.archives', 0));
    IF (EXISTS (SELECT FROM ops.archive_subjects s WHERE s.kind = TG_ARGV[0] AND s.subject_id = OLD.id)
            OR EXISTS (SELECT FROM ops.archives a WHERE a.status = 'writing'))
        AND NOT EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status = 'deleted') THEN
        INSERT INTO queue.outbox_tasks (task_type, payload, unique_key)
        VALUES ('archive.erase', jsonb_build_object('kind', TG_ARGV[0], 'id', OLD.id), format('archive.erase:%s:%s', TG_ARGV[0], OLD.id))
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_deleted AFTER DELETE ON identity.users FOR EACH ROW EXECUTE FUNCTION ops.forget_deleted('user');
CREATE TRIGGER forget_deleted AFTER DELETE ON people.persons FOR EACH ROW EXECUTE FUNCTION ops.forget_deleted('person');
CREATE TRIGGER forget_deleted AFTER DELETE ON assistants.clients FOR EACH ROW EXECUTE FUNCTION ops.forget_deleted('client');
CREATE TRIGGER forget_deleted AFTER DELETE ON assistants.personas FOR EACH ROW EXECUTE FUNCTION ops.forget_deleted('persona');
CREATE TRIGGER forget_deleted AFTER DELETE ON knowledge.documents FOR EACH ROW EXECUTE FUNCTION ops.forget_deleted('document');

-- Wait for the deletions that saw no archive being written: what they deleted is in none that is read from here on. Raises where one of
-- them takes longer.
CREATE FUNCTION ops.await_deletions() RETURNS void LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('ops.archives', 0))
$$;
COMMENT ON FUNCTION ops.await_deletions IS 'Waits a moment for deletions of whom archives may speak.';

-- What an archive deletes from its table stays in the archive.
DO $$
DECLARE
    known CONSTANT text := pg_get_functiondef('ops.empty_archive'::regproc);
    changed CONSTANT text := replace(known, $q$    PERFORM set_config('app.erasing', 'on', true);$q$,
        $q$    PERFORM set_config('app.erasing', 'on', true), set_config('app.archiving', 'on', true);$q$);
BEGIN
    ASSERT changed <> known, 'ops.empty_archive is another one';
    EXECUTE changed;
END
$$;

-- ---------------------------------------------------------------------------------------------------- a part without somebody

CREATE INDEX archives_writing_idx ON ops.archives (id) WHERE status = 'writing';

-- SQL that reads rows of an archive's file, given as an array of arrays of texts ($1), as rows `s` of the table that they were of, each
-- with its number: columns that the table has no more are texts, those that came since are empty.
CREATE FUNCTION ops.archived_rows(relation text, columns name[]) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('(SELECT u.n AS _n, %s FROM jsonb_array_elements($1) WITH ORDINALITY AS u (v, n)) AS s',
        string_agg(format(CASE WHEN c.name IS NULL THEN 'NULL::%3$s AS %2$I' ELSE '(u.v ->> %1$s)::%3$s AS %2$I' END, c.place - 1,
            COALESCE(c.name, a.attname), COALESCE(format_type(a.atttypid, a.atttypmod), 'text')), ', '))
    FROM unnest(columns) WITH ORDINALITY AS c (name, place)
    FULL JOIN (SELECT * FROM pg_attribute WHERE attrelid = to_regclass(relation) AND attnum > 0 AND NOT attisdropped) AS a ON a.attname = c.name
$$;
COMMENT ON FUNCTION ops.archived_rows IS 'Rows of an archive''s file as rows of their table, as SQL.';

-- The hash that each of these rows has now, in their order.
CREATE FUNCTION ops.hash_archived(relation text, columns name[], archived jsonb) RETURNS bigint[] LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    hashes bigint[];
BEGIN
    EXECUTE format('SELECT array_agg(%s ORDER BY s._n) FROM %s', ops.row_hash(columns, 's'), ops.archived_rows(relation, columns))
    INTO hashes USING archived;
    RETURN hashes;
END
$$;
COMMENT ON FUNCTION ops.hash_archived IS 'The hashes of rows of an archive''s file as they are now.';

-- The numbers, from 1, of those of these rows that a hold speaks of, each with the hold and why it is.
CREATE FUNCTION ops.hold_archived(relation text, columns name[], archived jsonb) RETURNS TABLE (place bigint, hold text) LANGUAGE plpgsql
    STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    held ops.retention_policies;
BEGIN
    FOR held IN SELECT h.* FROM ops.retention_policies h
        WHERE h.is_held AND format('%s.%s', h.table_schema, h.table_name) = hold_archived.relation ORDER BY h.name LOOP
        RETURN QUERY EXECUTE format('SELECT s._n, %L FROM %s WHERE %s', format('%s (%s)', held.name, held.hold_reason),
            ops.archived_rows(relation, columns), ops.scope_condition(to_regclass(relation), held, 's')) USING archived;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ops.hold_archived IS 'Which rows of an archive''s file a hold speaks of.';

-- The holds that speak of some tables, as they stand; none is set or lifted before the transaction ends.
CREATE FUNCTION ops.keep_holds(relations text[]) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    RETURN ops.holds_on(relations);
END
$$;
CREATE FUNCTION ops.holds_on(relations text[]) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE(string_agg(format('%s %s', h.id, h.updated_at), ', ' ORDER BY h.id), '') FROM ops.retention_policies h
    WHERE h.is_held AND format('%s.%s', h.table_schema, h.table_name) = ANY (relations)
$$;
COMMENT ON FUNCTION ops.holds_on IS 'The holds that speak of some tables, and since when they are as they are.';
COMMENT ON FUNCTION ops.keep_holds IS 'The same; none is set or lifted before the transaction ends.';

-- ---------------------------------------------------------------------------------------------------- a tenant's end

-- Archives outlive the rows of the tenant whose they were: the task tenant.erase has their files go, and their rows stay, without it.
DO $$
DECLARE
    known CONSTANT text := pg_get_functiondef('ops.tenant_tables'::regproc);
    changed CONSTANT text := replace(known, $q$AND a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype$q$,
        $q$AND a.attname = 'tenant_id' AND c.oid <> 'ops.archives'::regclass AND a.atttypid = 'uuid'::regtype$q$);
BEGIN
    ASSERT changed <> known, 'ops.tenant_tables is another one';
    EXECUTE changed;
END
$$;

REVOKE EXECUTE ON FUNCTION ops.forget_deleted, ops.await_deletions, ops.archived_rows, ops.hash_archived, ops.hold_archived,
    ops.keep_holds, ops.holds_on FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.await_deletions, ops.hash_archived, ops.hold_archived, ops.keep_holds, ops.holds_on TO greenroom_system;
