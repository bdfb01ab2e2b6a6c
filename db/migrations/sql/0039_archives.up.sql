-- Archives: rows that a policy takes go to storage by table and month, are read back and compared, and only then deleted
-- (docs/decisions/0012-archives.md).

-- ---------------------------------------------------------------------------------------------------- tables

CREATE TABLE ops.archives (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    run_id uuid,
    policy_name text NOT NULL,
    tenant_id uuid,
    table_schema text NOT NULL,
    table_name text NOT NULL,
    month date NOT NULL,
    part integer NOT NULL,
    status text DEFAULT 'writing' NOT NULL,
    row_count bigint DEFAULT 0 NOT NULL,
    byte_count bigint DEFAULT 0 NOT NULL,
    hash_sum numeric(30, 0) DEFAULT 0 NOT NULL,
    files jsonb DEFAULT '[]' NOT NULL,
    manifest_key text,
    manifest_sha256 text,
    schema_revision text NOT NULL,
    since timestamptz,
    until timestamptz,
    goes_on_at bigint,
    pages_emptied integer DEFAULT 0 NOT NULL,
    rows_deleted bigint DEFAULT 0 NOT NULL,
    left_behind integer[] DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    verified_at timestamptz,
    emptied_at timestamptz,
    restored_until timestamptz,
    CONSTRAINT archives_pkey PRIMARY KEY (id),
    CONSTRAINT archives_table_schema_table_name_month_part_key UNIQUE (table_schema, table_name, month, part),
    CONSTRAINT archives_status_is_whole_check CHECK (status = 'writing' OR num_nulls(manifest_key, manifest_sha256, since, until, verified_at) = 0),
    CONSTRAINT archives_status_says_when_check CHECK (status NOT IN ('writing', 'verified') OR emptied_at IS NULL),
    CONSTRAINT archives_emptied_says_when_check CHECK (status <> 'emptied' OR emptied_at IS NOT NULL),
    CONSTRAINT archives_run_id_fkey FOREIGN KEY (run_id) REFERENCES ops.retention_runs (id) ON DELETE SET NULL,
    CONSTRAINT archives_policy_name_check CHECK (length(policy_name) BETWEEN 1 AND 100),
    CONSTRAINT archives_table_schema_check CHECK (table_schema ~ '^[a-z_][a-z0-9_]*$' AND length(table_schema) <= 63),
    CONSTRAINT archives_table_name_check CHECK (table_name ~ '^[a-z_][a-z0-9_]*$' AND length(table_name) <= 63),
    CONSTRAINT archives_month_check CHECK (EXTRACT(day FROM month) = 1 AND month >= '0002-01-01' AND month < '9999-01-01'),
    CONSTRAINT archives_hash_sum_check CHECK (hash_sum <> 'NaN'),
    CONSTRAINT archives_part_check CHECK (part >= 1),
    CONSTRAINT archives_status_check CHECK (status IN ('writing', 'verified', 'emptied', 'erased')),
    CONSTRAINT archives_row_count_check CHECK (row_count >= 0),
    CONSTRAINT archives_byte_count_check CHECK (byte_count >= 0),
    CONSTRAINT archives_files_check CHECK (jsonb_typeof(files) = 'array'),
    CONSTRAINT archives_manifest_key_check CHECK (length(manifest_key) BETWEEN 1 AND 1000),
    CONSTRAINT archives_manifest_sha256_check CHECK (manifest_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT archives_schema_revision_check CHECK (length(schema_revision) BETWEEN 1 AND 64),
    CONSTRAINT archives_until_check CHECK (until >= since),
    CONSTRAINT archives_goes_on_at_check CHECK (goes_on_at >= 0),
    CONSTRAINT archives_since_range_check CHECK (since >= '0002-01-01 00:00+00' AND since < '9999-01-01 00:00+00'),
    CONSTRAINT archives_until_range_check CHECK (until >= '0002-01-01 00:00+00' AND until < '9999-01-01 00:00+00'),
    CONSTRAINT archives_created_at_range_check CHECK (created_at >= '0002-01-01 00:00+00' AND created_at < '9999-01-01 00:00+00'),
    CONSTRAINT archives_verified_at_range_check CHECK (verified_at >= '0002-01-01 00:00+00' AND verified_at < '9999-01-01 00:00+00'),
    CONSTRAINT archives_emptied_at_range_check CHECK (emptied_at >= '0002-01-01 00:00+00' AND emptied_at < '9999-01-01 00:00+00'),
    CONSTRAINT archives_restored_until_range_check CHECK (restored_until >= '0002-01-01 00:00+00' AND restored_until < '9999-01-01 00:00+00'),
    CONSTRAINT archives_pages_emptied_check CHECK (pages_emptied >= 0),
    CONSTRAINT archives_rows_deleted_check CHECK (rows_deleted >= 0),
    CONSTRAINT archives_verified_at_check CHECK (verified_at >= created_at),
    CONSTRAINT archives_emptied_at_check CHECK (emptied_at >= verified_at)
);
CREATE INDEX archives_run_id_idx ON ops.archives (run_id);
CREATE INDEX archives_writing_idx ON ops.archives (id) WHERE status = 'writing';
COMMENT ON TABLE ops.archives IS 'One part of one month of one table in storage: what it holds, where, and how far its rows have left the table.';
COMMENT ON COLUMN ops.archives.policy_name IS 'Kept when the policy is gone';
COMMENT ON COLUMN ops.archives.tenant_id IS 'Whose rows it holds, there or gone; NULL: of every tenant';
COMMENT ON COLUMN ops.archives.month IS 'Its first day, of the age column in UTC';
COMMENT ON COLUMN ops.archives.status IS 'verified: read back and compared; emptied: deleted from the table; erased: the files are gone';
COMMENT ON COLUMN ops.archives.row_count IS 'Of the table itself, without what goes along';
COMMENT ON COLUMN ops.archives.byte_count IS 'Bytes of the files';
COMMENT ON COLUMN ops.archives.hash_sum IS 'Sum of the hashes of its rows of the table';
COMMENT ON COLUMN ops.archives.files IS 'Key, table, kind (rows or links), rows, bytes, SHA-256 and columns of each';
COMMENT ON COLUMN ops.archives.schema_revision IS 'Of the migrations, when it was written';
COMMENT ON COLUMN ops.archives.since IS 'The least time of the age column in it';
COMMENT ON COLUMN ops.archives.until IS 'The greatest time of the age column in it';
COMMENT ON COLUMN ops.archives.goes_on_at IS 'The block of the table that the month''s next part begins at; NULL: all was looked through';
COMMENT ON COLUMN ops.archives.pages_emptied IS 'Pages of it whose rows have been deleted: a killed run goes on there';
COMMENT ON COLUMN ops.archives.left_behind IS 'Rows of its first file, counted from 0, that changed or were held since, and so are not its own';
COMMENT ON COLUMN ops.archives.restored_until IS 'Its rows were brought back: runs let the month be until then';

CREATE TABLE ops.archive_subjects (
    kind text NOT NULL,
    subject_id uuid NOT NULL,
    archive_id uuid NOT NULL,
    row_count bigint NOT NULL,
    CONSTRAINT archive_subjects_pkey PRIMARY KEY (kind, subject_id, archive_id),
    CONSTRAINT archive_subjects_archive_id_fkey FOREIGN KEY (archive_id) REFERENCES ops.archives (id) ON DELETE CASCADE,
    CONSTRAINT archive_subjects_kind_check CHECK (kind IN ('tenant', 'user', 'person', 'client', 'persona', 'document')),
    CONSTRAINT archive_subjects_row_count_check CHECK (row_count >= 1)
);
CREATE INDEX archive_subjects_archive_id_idx ON ops.archive_subjects (archive_id);
COMMENT ON TABLE ops.archive_subjects IS 'Whom an archive speaks of: by a subject, the archives with rows of it.';
COMMENT ON COLUMN ops.archive_subjects.row_count IS 'Rows that name the subject, with those that went along';

-- ---------------------------------------------------------------------------------------------------- what a table is

-- A table's columns in their order, each with the type beneath its domain, and whether it is of the key: the primary one; without, the
-- column `id`, or those of the widest index.
CREATE FUNCTION ops.archive_columns(relation regclass) RETURNS TABLE (name name, type text, is_key boolean) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE beneath (attnum, type) AS (
        SELECT a.attnum, a.atttypid FROM pg_attribute a
        WHERE a.attrelid = archive_columns.relation AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, t.typbasetype FROM beneath b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
    ), key (numbers) AS (
        SELECT i.indkey::int2[] FROM pg_index i
        WHERE i.indrelid = archive_columns.relation AND i.indpred IS NULL AND i.indexprs IS NULL
        ORDER BY i.indisprimary DESC,
            i.indnatts = 1 AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = 'id')
            DESC, i.indnatts DESC, i.indexrelid
        LIMIT 1
    )
    SELECT a.attname, format_type(b.type, NULL), COALESCE(a.attnum = ANY ((SELECT numbers FROM key)::int2[]), false)
    FROM beneath b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd'
    JOIN pg_attribute a ON a.attrelid = archive_columns.relation AND a.attnum = b.attnum
    ORDER BY a.attnum
$$;
COMMENT ON FUNCTION ops.archive_columns IS 'Columns of a table, with the types beneath their domains, and its key.';

-- What tells one row's content from another's, as SQL over an alias: a hash of the row's text, whose form the caller's settings pin.
CREATE FUNCTION ops.row_hash(columns name[], alias text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('hashtextextended(ROW(%s)::text, 0)', string_agg(format('%I.%I', alias, c.name), ', ' ORDER BY c.place))
    FROM unnest(columns) WITH ORDINALITY AS c (name, place)
$$;
COMMENT ON FUNCTION ops.row_hash IS 'The hash of a row of these columns, as SQL over an alias.';

-- The columns by which a row names whom it speaks of: by what they refer to; a table's own key where it is one of these; where a table
-- refers to nothing, by their names. Where `kind_column` is given, the kind stands in that.
CREATE FUNCTION ops.subject_columns(relation regclass) RETURNS TABLE (column_name name, kind text, kind_column name) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH subject (relation, kind) AS (
        VALUES ('identity.tenants'::regclass, 'tenant'), ('identity.users', 'user'), ('people.persons', 'person'),
            ('assistants.clients', 'client'), ('assistants.personas', 'persona'), ('knowledge.documents', 'document')
    ), named (name, kind, kind_column) AS (
        VALUES ('tenant_id', 'tenant', NULL), ('user_id', 'user', NULL), ('persona_id', 'persona', NULL), ('owner_id', NULL, 'owner_kind')
    )
    SELECT a.attname, s.kind, NULL::name FROM pg_constraint k JOIN subject s ON s.relation = k.confrelid,
        unnest(k.conkey, k.confkey) AS u (child, parent), pg_attribute a, pg_attribute p
    WHERE k.conrelid = subject_columns.relation AND k.contype = 'f' AND p.attrelid = k.confrelid AND p.attnum = u.parent
        AND p.attname = 'id' AND a.attrelid = k.conrelid AND a.attnum = u.child
    UNION
    SELECT 'id', s.kind, NULL FROM subject s WHERE s.relation = subject_columns.relation
    UNION
    SELECT a.attname, n.kind, n.kind_column FROM named n
    JOIN pg_attribute a ON a.attrelid = subject_columns.relation AND a.attname = n.name AND a.atttypid = 'uuid'::regtype
    WHERE (n.name = 'tenant_id' OR NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = subject_columns.relation AND k.contype = 'f'
            AND k.confrelid <> 'identity.tenants'::regclass))
        AND (n.kind_column IS NULL OR EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = subject_columns.relation AND o.attname = n.kind_column))
    ORDER BY 1, 2
$$;
COMMENT ON FUNCTION ops.subject_columns IS 'The columns by which rows of a table name whom they speak of.';

-- Whom a row speaks of, by itself or by what it refers to, as SQL over an alias: a text such as `tenant:… -user:…`, NULL where the table
-- names nobody. A name says what the erasure of whom it names makes of the row. A tenant's, a person's and a client's rows go
-- with them. Of the others `-user:…` says that the row goes, as a cascade would take it, over any number of tables; `~user:…` that it is
-- emptied of the name, as SET NULL does, and as identity.erase_user does with what the log of changes holds of a user; `user:…` that it
-- stays, since it says who did something.
CREATE FUNCTION ops.archive_subjects_of(relation regclass, alias text, depth integer DEFAULT 0) RETURNS text
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
COMMENT ON FUNCTION ops.archive_subjects_of IS 'Whom a row speaks of, by itself or by what it refers to, as SQL over an alias.';

-- ---------------------------------------------------------------------------------------------------- what a run takes

-- What a run that archives takes of a month, or of all that are over before its cutoff: as SQL over r0. NULL where it takes nothing (any
-- more), and for a month that is not over before the cutoff.
CREATE FUNCTION ops.archive_scope(run uuid, month date, OUT relation regclass, OUT age_column name, OUT since timestamptz,
    OUT until timestamptz, OUT condition text) LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    working record;
BEGIN
    SELECT p.id, p.age_column, LEAST(r.cutoff, now() - p.age) AS cutoff, to_regclass(format('%I.%I', r.table_schema, r.table_name)) AS relation
    INTO working FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id
    WHERE r.id = run AND r.status = 'running' AND p.is_enabled AND NOT p.is_held AND p.action = 'archive';
    until := COALESCE(month::timestamptz + interval '1 month', date_trunc('month', working.cutoff));
    IF working.relation IS NULL OR until > working.cutoff THEN
        until := NULL;
        RETURN;
    END IF;
    relation := working.relation;
    age_column := working.age_column;
    since := COALESCE(month::timestamptz, '-infinity');
    condition := format('r0.%1$I %2$s %3$L AND r0.%1$I < %4$L AND (%5$s)', age_column, CASE WHEN month IS NULL THEN '>' ELSE '>=' END,
        since, until, ops.retention_condition(working.id, working.cutoff));
END
$$;
COMMENT ON FUNCTION ops.archive_scope IS 'What a run archives of a month, as SQL over r0.';

-- The oldest month with rows that a run takes, but for those that were brought back for a while. A month after the other where the table
-- is parted by the column: the first one with a row tells.
CREATE FUNCTION ops.archive_month(run uuid) RETURNS date LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    scope record := ops.archive_scope(run, NULL);
    back CONSTANT date[] := (SELECT array_agg(DISTINCT a.month) FROM ops.archives a
        WHERE to_regclass(format('%I.%I', a.table_schema, a.table_name)) = scope.relation AND a.restored_until > now());
    piece record;
    oldest timestamptz;
BEGIN
    FOR piece IN SELECT m.since, m.until FROM ops.months() m JOIN ops.parted_tables() t ON t.relation = m.relation AND t.key = scope.age_column
            WHERE m.relation = scope.relation AND m.since < scope.until
        UNION ALL SELECT '-infinity', scope.until WHERE scope.relation IS NOT NULL
            AND NOT EXISTS (SELECT FROM ops.parted_tables() t WHERE t.relation = scope.relation AND t.key = scope.age_column)
        ORDER BY 1 LOOP
        EXECUTE format('SELECT min(r0.%1$I) FROM %2$s r0 WHERE %3$s AND r0.%1$I >= %4$L AND r0.%1$I < %5$L AND NOT COALESCE('
            'date_trunc(''month'', r0.%1$I)::date = ANY (%6$L::date[]), false)', scope.age_column, scope.relation, scope.condition,
            piece.since, piece.until, back) INTO oldest;
        EXIT WHEN oldest IS NOT NULL;
    END LOOP;
    RETURN date_trunc('month', oldest)::date;
END
$$;
COMMENT ON FUNCTION ops.archive_month IS 'The oldest month with rows that a run archives.';

-- Whether a run takes all that stands in a month of a table that nothing refers to: then all parts are written before the month is
-- dropped as it stands.
CREATE FUNCTION ops.archives_whole(run uuid, month date) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    scope record := ops.archive_scope(run, month);
    leaf CONSTANT regclass := (SELECT m.leaf FROM ops.months() m JOIN ops.parted_tables() t ON t.relation = m.relation
        WHERE m.relation = scope.relation AND t.key = scope.age_column AND m.since = scope.since AND m.until = scope.until);
    is_other boolean;
BEGIN
    IF leaf IS NULL OR EXISTS (SELECT FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id
            WHERE r.id = run AND (p.tenant_id IS NOT NULL OR p.filter <> '{}'))
        OR EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = scope.relation AND k.contype = 'f') THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$s r0 WHERE r0.%2$I >= %3$L AND r0.%2$I < %4$L AND NOT COALESCE((%5$s), false))',
        scope.relation, scope.age_column, scope.since, scope.until, scope.condition) INTO is_other;
    RETURN NOT is_other;
END
$$;
COMMENT ON FUNCTION ops.archives_whole IS 'Whether a run takes all that stands in a month of a table that nothing refers to.';

-- ---------------------------------------------------------------------------------------------------- gathering

-- What a part of a table is made of, a file each: its own rows (place 0); rows that their delete takes along; rows that it changes, by
-- their keys and the columns that refer. A table that comes back to itself on the way has a second file for what goes along.
CREATE FUNCTION ops.archive_files(root regclass)
    RETURNS TABLE (place integer, relation regclass, kind text, columns name[], parent regclass, refers name[], refers_to name[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH file (relation, kind, parent, refers, refers_to, rank) AS (
        SELECT root, 'rows', NULL::regclass, NULL::name[], NULL::name[], 0
        UNION ALL
        SELECT DISTINCT d.child, 'rows', NULL::regclass, NULL::name[], NULL::name[], 1 FROM ops.dependents(root) d WHERE d.action = 'cascade'
        UNION ALL
        SELECT DISTINCT d.child, 'links', d.parent, d.child_columns, d.parent_columns, 2 FROM ops.dependents(root) d
        WHERE d.action = 'set_null'
    )
    SELECT (row_number() OVER (ORDER BY f.rank, f.relation::text, f.refers::text, f.parent::text))::integer - 1, f.relation, f.kind,
        ARRAY(SELECT c.name FROM ops.archive_columns(f.relation) c WHERE f.kind = 'rows' OR c.is_key OR c.name = ANY (f.refers)),
        f.parent, f.refers, f.refers_to
    FROM file f ORDER BY 1
$$;
COMMENT ON FUNCTION ops.archive_files IS 'The files that a part of a table is made of.';

CREATE FUNCTION ops.archive_list(columns name[], alias text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(format('%I.%I', alias, c.name), ', ' ORDER BY c.place) FROM unnest(columns) WITH ORDINALITY AS c (name, place)
$$;
COMMENT ON FUNCTION ops.archive_list IS 'Columns of an alias, as SQL.';

-- The ways from file to file of a part, as SQL: `locks` locks what goes along, `adds` gathers it, what is changed with action `set_null`.
CREATE FUNCTION ops.archive_steps(root regclass, locking boolean)
    RETURNS TABLE (action text, source integer, target integer, makes text, locks text, adds text) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    WITH file AS MATERIALIZED (SELECT * FROM ops.archive_files(root)),
    edge AS MATERIALIZED (SELECT DISTINCT d.parent, d.child, d.child_columns, d.parent_columns, d.action FROM ops.dependents(root) d
        WHERE d.action IN ('cascade', 'set_null')),
    said AS MATERIALIZED (SELECT f.place, ops.archive_list(f.columns, 'c') AS listed, ops.row_hash(f.columns, 'c') AS hashed,
            CASE WHEN f.kind = 'rows' AND NOT locking THEN ops.archive_subjects_of(f.relation, 'c') END AS subjects
        FROM file f WHERE f.place > 0)
    SELECT e.action, s.place, t.place,
        format('CREATE TEMP TABLE archive_%s ON COMMIT DROP AS SELECT %s, 0::bigint AS _row_hash, NULL::text AS _subjects, 0 AS _n, '
            '0::oid AS _leaf, NULL::tid AS _at FROM %s c LIMIT 0', t.place, said.listed, t.relation),
        CASE WHEN locking AND e.action = 'cascade' THEN format('SELECT FROM %s c JOIN pg_temp.archive_%s p ON %s FOR UPDATE OF c',
            t.relation, s.place, refers.matched) END,
        format('INSERT INTO pg_temp.archive_%s SELECT %s, %s, %s, p._n, c.tableoid, c.ctid FROM %s c JOIN pg_temp.archive_%s p ON %s%s',
            t.place, said.listed, said.hashed, COALESCE(said.subjects, 'NULL'), t.relation, s.place, refers.matched,
            CASE WHEN e.action = 'cascade' THEN (SELECT string_agg(format(' %s NOT EXISTS (SELECT FROM pg_temp.archive_%s x '
                    'WHERE x._at = c.ctid AND x._leaf = c.tableoid)', CASE other.place WHEN t.place THEN 'WHERE' ELSE 'AND' END, other.place),
                    '' ORDER BY other.place DESC)
                FROM file other WHERE other.kind = 'rows' AND other.relation = t.relation) ELSE '' END)
    FROM edge e JOIN file s ON s.relation = e.parent AND s.kind = 'rows'
    JOIN file t ON t.relation = e.child AND t.place > 0 AND CASE e.action WHEN 'cascade' THEN t.kind = 'rows'
        ELSE t.kind = 'links' AND t.refers = e.child_columns AND t.parent = e.parent END
    JOIN said ON said.place = t.place
    CROSS JOIN LATERAL (SELECT string_agg(format('c.%I = p.%I', u.child, u.parent), ' AND ')
        FROM unnest(e.child_columns, e.parent_columns) AS u (child, parent)) AS refers (matched)
    ORDER BY e.action, s.place, t.place
$$;
COMMENT ON FUNCTION ops.archive_steps IS 'How what goes along with rows of a table is gathered, as SQL.';

-- Gather what the rows of pg_temp.archive_0 take along, to any depth and each row once, and what their delete changes, into
-- pg_temp.archive_1 and so on. `locking` locks what goes, level by level, so that nothing refers to it anew before the transaction's
-- end. A lock and the read after it are two statements.
CREATE FUNCTION ops.archive_follow(root regclass, locking boolean) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    steps CONSTANT jsonb := (SELECT COALESCE(jsonb_agg(s), '[]') FROM ops.archive_steps(root, locking) s);
    step record;
    found_rows bigint;
    added bigint := 1;
BEGIN
    FOR step IN SELECT DISTINCT s.target, s.makes FROM jsonb_to_recordset(steps) AS s (target integer, makes text) LOOP
        IF to_regclass('pg_temp.archive_' || step.target) IS NOT NULL THEN
            EXECUTE format('DROP TABLE pg_temp.archive_%s', step.target);
        END IF;
        EXECUTE step.makes;
    END LOOP;
    WHILE added > 0 LOOP
        added := 0;
        FOR step IN SELECT * FROM jsonb_to_recordset(steps) AS s (action text, locks text, adds text) WHERE s.action = 'cascade' LOOP
            IF step.locks IS NOT NULL THEN
                EXECUTE step.locks;
            END IF;
            EXECUTE step.adds;
            GET DIAGNOSTICS found_rows = ROW_COUNT;
            added := added + found_rows;
        END LOOP;
    END LOOP;
    -- all rows are there: what they change comes last
    FOR step IN SELECT s.adds FROM jsonb_to_recordset(steps) AS s (action text, adds text) WHERE s.action = 'set_null' LOOP
        EXECUTE step.adds;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ops.archive_follow IS 'Gathers what a delete of the gathered rows would take along or change.';

-- Gather a page of a part that is being written: what its run takes of these blocks of the table, with all that goes along, each into a
-- table of the transaction's own that the caller may read. Returns what came together; nothing where the run takes nothing any more.
CREATE FUNCTION ops.gather_archive(archive uuid, first_block bigint, last_block bigint) RETURNS TABLE (place integer, row_count bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    part CONSTANT ops.archives := (SELECT a FROM ops.archives a WHERE a.id = archive AND a.status = 'writing');
    scope record := ops.archive_scope(part.run_id, part.month);
    own CONSTANT name[] := ARRAY(SELECT c.name FROM ops.archive_columns(scope.relation) c);
BEGIN
    IF scope.relation IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TEMP TABLE archive_0 ON COMMIT DROP AS SELECT %s, %s AS _row_hash, %s AS _subjects, 0 AS _n, '
        'r0.tableoid AS _leaf, r0.ctid AS _at FROM %s r0 WHERE r0.ctid >= %L AND r0.ctid < %L AND %s', ops.archive_list(own, 'r0'),
        ops.row_hash(own, 'r0'), COALESCE(ops.archive_subjects_of(scope.relation, 'r0'), 'NULL::text'), scope.relation,
        format('(%s,0)', first_block), format('(%s,0)', last_block), scope.condition);
    PERFORM ops.archive_follow(scope.relation, false);
    place := 0;
    WHILE to_regclass('pg_temp.archive_' || place) IS NOT NULL LOOP
        EXECUTE format('GRANT SELECT ON pg_temp.archive_%s TO greenroom_system', place);
        EXECUTE format('SELECT count(*) FROM pg_temp.archive_%s', place) INTO row_count;
        RETURN NEXT;
        place := place + 1;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ops.gather_archive IS 'Gathers a page of rows to archive, with what goes along.';

-- Where the table of a run's month ends, in blocks: of its longest part that may have rows of the month.
CREATE FUNCTION ops.archive_blocks(run uuid, month date) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
DECLARE
    scope record := ops.archive_scope(run, month);
BEGIN
    RETURN (SELECT max(pg_relation_size(t.relid)) / current_setting('block_size')::bigint
        FROM (SELECT relid FROM pg_partition_tree(scope.relation) WHERE isleaf UNION ALL SELECT scope.relation) t
        WHERE NOT EXISTS (SELECT FROM ops.months() m JOIN ops.parted_tables() p ON p.relation = m.relation
            WHERE m.leaf = t.relid AND p.key = scope.age_column AND (m.until <= scope.since OR m.since >= scope.until)));
END
$$;
COMMENT ON FUNCTION ops.archive_blocks IS 'The blocks of a table that may hold rows of a month.';

-- ---------------------------------------------------------------------------------------------------- comparing

-- A table of the transaction's own for rows that come back from a file: columns as the table has them, and the hash that the file says.
CREATE FUNCTION ops.archive_stage(relation text, columns name[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TEMP TABLE archive_stage ON COMMIT DROP AS SELECT %s, 0::bigint AS _row_hash FROM %s c LIMIT 0',
        ops.archive_list(columns, 'c'), relation::regclass);
    GRANT SELECT, INSERT ON pg_temp.archive_stage TO greenroom_system;
END
$$;
COMMENT ON FUNCTION ops.archive_stage IS 'A table for rows that come back from a file of an archive.';

-- What came back, and how many of that are not what they were.
CREATE FUNCTION ops.check_stage(columns name[], OUT total bigint, OUT wrong bigint) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
BEGIN
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %s IS DISTINCT FROM s._row_hash) FROM pg_temp.archive_stage s',
        ops.row_hash(columns, 's')) INTO total, wrong;
END
$$;
COMMENT ON FUNCTION ops.check_stage IS 'Counts the staged rows, and those whose hash is another.';

-- ---------------------------------------------------------------------------------------------------- emptying

-- Delete a page of a verified part: of `rows` (`n`, where it stands in the file, `h`, its hash, and its key) those that are as they were
-- and that the run still takes, with all that goes along, if that is as it was, too: `known` has the hashes of it. Returns which went.
-- A row that changed, that was held or that something new refers to stays.
CREATE FUNCTION ops.empty_archive(run uuid, archive uuid, rows jsonb, known bigint[]) RETURNS integer[] LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lock_timeout = '5s' AS $$
DECLARE
    part ops.archives;
    scope record;
    own name[];
    key text;
    refers text;
    goes text;
    gone integer[];
BEGIN
    -- A hold that is set meanwhile waits for the end; one that stands is seen.
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    SELECT a.* INTO part FROM ops.archives a WHERE a.id = archive AND a.status = 'verified' FOR UPDATE;
    scope := ops.archive_scope(run, part.month);
    IF scope.relation IS NULL OR part.table_schema || '.' || part.table_name IS DISTINCT FROM
        (SELECT r.table_schema || '.' || r.table_name FROM ops.retention_runs r WHERE r.id = run) THEN
        RETURN NULL;
    END IF;
    own := ARRAY(SELECT c.name FROM ops.archive_columns(scope.relation) c);
    SELECT string_agg(format('%I %s', c.name, c.type), ', '), string_agg(format('r0.%1$I = k.%1$I', c.name), ' AND ') INTO key, refers
    FROM ops.archive_columns(scope.relation) c WHERE c.is_key;
    goes := format('%s AND %s AND %s = k.h', refers, scope.condition, ops.row_hash(own, 'r0'));
    PERFORM set_config('app.erasing', 'on', true), set_config('app.archiving', 'on', true);
    IF NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN
        EXECUTE format('WITH k AS MATERIALIZED (SELECT * FROM jsonb_to_recordset(%L) AS k (n integer, h bigint, %s)), '
            'gone AS (DELETE FROM %s r0 USING k WHERE %s RETURNING k.n) SELECT array_agg(n) FROM gone', rows, key, scope.relation, goes) INTO gone;
    ELSE
        gone := ops.empty_with_all(scope.relation, own, key, format('%s AND r0.%I >= %L AND r0.%I < %L', refers, scope.age_column, scope.since,
            scope.age_column, scope.until), goes, rows, known);
    END IF;
    PERFORM set_config('app.erasing', '', true);
    RETURN COALESCE(gone, '{}');
END
$$;
COMMENT ON FUNCTION ops.empty_archive IS 'Deletes a page of archived rows that are as they were.';

-- The same where rows of other tables go along or change: locked first, so that what is gathered then stays as it is.
CREATE FUNCTION ops.empty_with_all(root regclass, own name[], key text, refers text, goes text, rows jsonb, known bigint[])
    RETURNS integer[] LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    gone integer[];
    stays integer[];
    strange text;
BEGIN
    EXECUTE format('CREATE TEMP TABLE archive_keys ON COMMIT DROP AS SELECT * FROM jsonb_to_recordset(%L) AS k (n integer, h bigint, %s)',
        rows, key);
    EXECUTE format('SELECT FROM %s r0 JOIN pg_temp.archive_keys k ON %s FOR UPDATE OF r0', root, refers);
    EXECUTE format('CREATE TEMP TABLE archive_0 ON COMMIT DROP AS SELECT %s, k.h AS _row_hash, k.n AS _n, r0.tableoid AS _leaf, '
        'r0.ctid AS _at FROM %s r0 JOIN pg_temp.archive_keys k ON %s', ops.archive_list(own, 'r0'), root, goes);
    LOOP
        PERFORM ops.archive_follow(root, true);
        strange := (SELECT string_agg(format('SELECT _n, _row_hash FROM pg_temp.archive_%s', p.place), ' UNION ALL ')
            FROM generate_series(1, 1000) AS p (place) WHERE to_regclass('pg_temp.archive_' || p.place) IS NOT NULL);
        EXIT WHEN strange IS NULL;
        EXECUTE format('SELECT array_agg(DISTINCT a._n) FROM (%s) a WHERE NOT EXISTS (SELECT FROM unnest($1) AS k (h) WHERE k.h = a._row_hash)',
            strange) INTO stays USING known;
        EXIT WHEN stays IS NULL;
        EXECUTE 'DELETE FROM pg_temp.archive_0 WHERE _n = ANY ($1)' USING stays;
    END LOOP;
    EXECUTE format('WITH gone AS (DELETE FROM %s r0 USING pg_temp.archive_0 k WHERE %s AND r0.tableoid = k._leaf AND r0.ctid = k._at '
        'RETURNING k._n) SELECT array_agg(_n) FROM gone', root, refers) INTO gone;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION ops.empty_with_all IS 'Deletes archived rows with what goes along, if all is as it was.';

-- Drop a month that is in verified parts, all of it and nothing else, by their counts and the sum of their hashes; or one that is empty
-- by now. `dropped`, `busy` (somebody holds it: later again), `differs` (rows go one by one), or `kept` where no month goes at all.
-- Nobody writes to it while it is counted; who only reads waits for the drop alone.
CREATE FUNCTION ops.drop_archived(run uuid, month date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' SET lock_timeout = '50ms' AS $$
DECLARE
    scope record;
    leaf regclass;
    is_referred boolean;
    expected record;
    counted record;
    name text;
BEGIN
    LOCK TABLE ops.retention_policies IN SHARE MODE;
    scope := ops.archive_scope(run, month);
    SELECT m.leaf, c.relname INTO leaf, name FROM ops.months() m JOIN ops.parted_tables() t ON t.relation = m.relation
    JOIN pg_class c ON c.oid = m.leaf
    WHERE m.relation = scope.relation AND t.key = scope.age_column AND m.since = scope.since AND m.until = scope.until;
    IF leaf IS NULL OR EXISTS (SELECT FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id
            WHERE r.id = run AND (p.tenant_id IS NOT NULL OR p.filter <> '{}')) THEN
        RETURN 'kept';
    END IF;
    is_referred := EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = scope.relation AND k.contype = 'f');
    SELECT COALESCE(sum(a.row_count), 0) AS total, COALESCE(sum(a.hash_sum), 0) AS sum, COALESCE(sum(a.pages_emptied), 0) AS begun INTO expected
    FROM ops.archives a
    WHERE to_regclass(format('%I.%I', a.table_schema, a.table_name)) = scope.relation AND a.month = drop_archived.month AND a.status = 'verified';
    IF expected.begun > 0 OR is_referred AND expected.total > 0 THEN
        RETURN 'differs';
    END IF;
    BEGIN
        EXECUTE format('LOCK TABLE %s IN SHARE MODE', leaf);
    EXCEPTION
        WHEN lock_not_available OR deadlock_detected THEN
            RETURN 'busy';
    END;
    EXECUTE format('SELECT count(*) AS total, count(*) FILTER (WHERE %5$s) AS taken, COALESCE(sum(%6$s), 0) AS sum FROM %1$s r0 '
        'WHERE r0.%2$I >= %3$L AND r0.%2$I < %4$L', scope.relation, scope.age_column, scope.since, scope.until, scope.condition,
        ops.row_hash(ARRAY(SELECT c.name FROM ops.archive_columns(scope.relation) c), 'r0')) INTO counted;
    IF counted.total <> expected.total OR counted.taken <> expected.total OR counted.sum <> expected.sum THEN
        RETURN 'differs';
    END IF;
    IF NOT ops.cut_month(scope.relation, leaf, is_referred) THEN
        RETURN 'busy';
    END IF;
    UPDATE ops.archives a SET status = 'emptied', emptied_at = clock_timestamp(), rows_deleted = a.row_count
    WHERE to_regclass(format('%I.%I', a.table_schema, a.table_name)) = scope.relation AND a.month = drop_archived.month AND a.status = 'verified';
    UPDATE ops.retention_runs r SET rows_deleted = r.rows_deleted + counted.total, partitions_dropped = r.partitions_dropped || name
    WHERE r.id = run;
    RETURN 'dropped';
EXCEPTION
    WHEN lock_not_available THEN -- somebody changes policies
        RETURN 'busy';
END
$$;
COMMENT ON FUNCTION ops.drop_archived IS 'Drops a month whose rows are all in verified archives.';

-- ---------------------------------------------------------------------------------------------------- row security and grants

DO $$
DECLARE
    relation regclass;
    bound CONSTANT text := 'tenant_id = (SELECT identity.current_tenant_id())';
    unbound CONSTANT text := '(SELECT identity.current_tenant_id()) IS NULL';
BEGIN
    FOREACH relation IN ARRAY ARRAY['ops.archives', 'ops.archive_subjects']::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY owner_passes ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY roles_pass ON %s TO greenroom_system, greenroom_operator, greenroom_reader '
            'USING (true) WITH CHECK (true)', relation);
    END LOOP;
    EXECUTE format('CREATE POLICY tenant_binds ON ops.archives AS RESTRICTIVE TO greenroom_reader USING (%s) WITH CHECK (%s)', bound, bound);
    EXECUTE format('CREATE POLICY operator_binds ON ops.archives AS RESTRICTIVE TO greenroom_operator USING (%s OR %s) WITH CHECK (%s OR %s)',
        bound, unbound, bound, unbound);
    -- a subject's archives are seen by who sees the archive
    EXECUTE format('CREATE POLICY archive_binds ON ops.archive_subjects AS RESTRICTIVE TO greenroom_operator, greenroom_reader '
        'USING (EXISTS (SELECT FROM ops.archives a WHERE a.id = archive_id))');
END
$$;
GRANT SELECT ON ops.archives, ops.archive_subjects TO greenroom_system, greenroom_operator, greenroom_reader;
GRANT INSERT, UPDATE, DELETE ON ops.archives, ops.archive_subjects TO greenroom_system;
REVOKE EXECUTE ON FUNCTION ops.archive_columns, ops.row_hash, ops.subject_columns, ops.archive_subjects_of,
    ops.archive_scope, ops.archive_month, ops.archives_whole,
    ops.archive_files, ops.archive_list, ops.archive_steps, ops.archive_follow, ops.gather_archive, ops.archive_blocks, ops.archive_stage, ops.check_stage,
    ops.empty_archive, ops.empty_with_all, ops.drop_archived FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.archive_columns, ops.subject_columns, ops.archive_month, ops.archives_whole, ops.archive_files,
    ops.gather_archive, ops.archive_blocks, ops.archive_stage, ops.check_stage, ops.empty_archive, ops.drop_archived
    TO greenroom_system;
