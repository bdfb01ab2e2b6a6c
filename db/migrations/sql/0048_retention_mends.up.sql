-- Retention after its readers: rows that are equal, holds that come while a page goes, stores of two installations, months that were
-- brought back, and who may refuse.

-- ---------------------------------------------------------------------------------------------------- whose store it is

CREATE TABLE ops.installation (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    is_only boolean DEFAULT true NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT installation_pkey PRIMARY KEY (id),
    CONSTRAINT installation_is_only_key UNIQUE (is_only),
    CONSTRAINT installation_is_only_check CHECK (is_only),
    CONSTRAINT installation_created_at_range_check CHECK (created_at >= '0002-01-01 00:00+00' AND created_at < '9999-01-01 00:00+00')
);
COMMENT ON TABLE ops.installation IS 'Who this installation is: its one row. Stores that it writes to carry the id.';
COMMENT ON COLUMN ops.installation.is_only IS 'Makes the row the only one';
INSERT INTO ops.installation DEFAULT VALUES;
GRANT SELECT ON ops.installation TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;

-- ---------------------------------------------------------------------------------------------------- rows that are equal

-- Whether a table's key tells each row from all others. Without, equal rows are told by their number alone.
CREATE FUNCTION ops.is_keyed(relation regclass) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            AND i.indkey::int2[] <@ ARRAY(SELECT a.attnum FROM ops.archive_columns(relation) c
                JOIN pg_attribute a ON a.attrelid = relation AND a.attname = c.name WHERE c.is_key AND a.attnotnull))
$$;
COMMENT ON FUNCTION ops.is_keyed IS 'Whether a key of a table tells each of its rows from all others.';

-- Delete of archived rows (as ops.empty_archive has them) as many as there are of each: the n-th of a file's equal rows takes the n-th of
-- the table's. They are locked first: a lock and the read after it are two statements.
CREATE FUNCTION ops.empty_equals(relation regclass, key text, refers text, goes text, rows jsonb) RETURNS integer[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    names CONSTANT text := (SELECT string_agg(format('k.%I', c.name), ', ') FROM ops.archive_columns(relation) c WHERE c.is_key);
    given CONSTANT text := format('k AS MATERIALIZED (SELECT k.*, row_number() OVER copies AS copy, min(k.n) OVER copies_of AS leader '
        'FROM jsonb_to_recordset(%L) AS k (n integer, h bigint, %s) '
        'WINDOW copies_of AS (PARTITION BY k.h, %s), copies AS (PARTITION BY k.h, %3$s ORDER BY k.n))', rows, key, names);
    gone integer[];
BEGIN
    EXECUTE format('WITH %s SELECT FROM %s r0 JOIN k ON k.copy = 1 AND %s FOR UPDATE OF r0', given, relation, refers);
    EXECUTE format('WITH %1$s, found AS MATERIALIZED (SELECT k.leader, r0.tableoid AS leaf, r0.ctid AS at, '
        'row_number() OVER (PARTITION BY k.leader ORDER BY r0.tableoid, r0.ctid) AS copy FROM %2$s r0 JOIN k ON k.copy = 1 AND %3$s), '
        'chosen AS MATERIALIZED (SELECT k.n, f.leaf, f.at FROM found f JOIN k ON k.leader = f.leader AND k.copy = f.copy), '
        'gone AS (DELETE FROM %2$s r0 USING chosen c WHERE r0.tableoid = c.leaf AND r0.ctid = c.at RETURNING c.n) '
        'SELECT array_agg(n) FROM gone', given, relation, goes) INTO gone;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION ops.empty_equals IS 'Deletes archived rows of a table in which rows may be equal, as many as there are of each.';

-- As 0040 has it, but that of a table without a key as many rows come back as the file has: of each row of it `copy` says the how-manieth
-- of its equals it is, and `copies` how many have its key.
CREATE OR REPLACE FUNCTION ops.restoring_rows(relation regclass, columns jsonb, without text[]) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format($q$
WITH page AS MATERIALIZED (
    SELECT * FROM (SELECT row_number() OVER () AS "#", q.* FROM json_to_recordset($1) AS q (%2$s)) AS p WHERE p."#" BETWEEN $2 AND $3
), checked AS MATERIALIZED (
    SELECT p.*, %3$s AS "#reason" FROM page p
), typed AS MATERIALIZED (
    SELECT p."#", %4$s FROM checked p WHERE p."#reason" IS NULL
), there AS MATERIALIZED (
    %5$s
), judged AS MATERIALIZED (
    SELECT p.*, %6$s AS "#reason" FROM typed p WHERE NOT EXISTS (SELECT FROM there t WHERE t."#" = p."#")
), added AS (
    INSERT INTO %1$s (%7$s) OVERRIDING SYSTEM VALUE SELECT %7$s FROM judged j WHERE j."#reason" IS NULL ORDER BY j."#"
    ON CONFLICT DO NOTHING RETURNING 1
), refused AS (
    SELECT c."#reason" AS reason, count(*) AS rows FROM checked c WHERE c."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT j."#reason", count(*) FROM judged j WHERE j."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT 'another row has a key of it that is unique', j.rows - a.rows
    FROM (SELECT count(*) AS rows FROM judged WHERE "#reason" IS NULL) AS j, (SELECT count(*) AS rows FROM added) AS a WHERE j.rows > a.rows
)
SELECT (SELECT count(*) FROM added) AS written, (SELECT count(*) FROM there WHERE NOT is_different) AS same,
    (SELECT count(*) FROM there WHERE is_different) AS other, (SELECT jsonb_object_agg(r.reason, r.rows) FROM refused r) AS refused$q$,
        relation, string_agg(format('"%s" text', s.number), ', ') || CASE WHEN s.is_keyed THEN '' ELSE ', copy bigint, copies bigint' END,
        COALESCE('CASE ' || string_agg(format('WHEN NOT pg_input_is_valid(p."%s", %L) THEN %L', s.number, s.type,
            format('%s: no value of the type %s, which it has now', s.name, s.type)), ' ') FILTER (WHERE s.is_checked) || ' END',
            'NULL::text'),
        string_agg(format('p."%s"::%s AS %I', s.number, s.type, s.name), ', ')
            || CASE WHEN s.is_keyed THEN '' ELSE ', COALESCE(p.copy, 1) AS "#copy", COALESCE(p.copies, 1) AS "#copies"' END,
        format(CASE WHEN s.is_keyed THEN 'SELECT p."#", %1$s AS is_different FROM typed p JOIN %2$s t ON %3$s'
            ELSE 'SELECT p."#", t.equals < p."#copy" AS is_different FROM typed p CROSS JOIN LATERAL (SELECT count(*) AS all, '
                'count(*) FILTER (WHERE NOT (%1$s)) AS equals FROM %2$s t WHERE %3$s) AS t WHERE t.equals >= p."#copy" OR t.all >= p."#copies"' END,
            COALESCE(string_agg(format('t.%1$I::text IS DISTINCT FROM p.%1$I::text', s.name), ' OR ') FILTER (WHERE NOT s.is_key), 'false'),
            relation, string_agg(format('t.%1$I = p.%1$I', s.name), ' AND ') FILTER (WHERE s.is_key)),
        ops.orphan_case(relation, array_agg(s.name), 'typed'),
        string_agg(quote_ident(s.name), ', '))
    FROM (SELECT c.*, ops.is_keyed(relation) AS is_keyed FROM ops.restorable_columns(relation, columns, without) c) AS s
    GROUP BY s.is_keyed
$$;

-- ---------------------------------------------------------------------------------------------------- holds that come meanwhile

-- Lock all that goes along with rows of a table for which a condition over r0 holds, or is changed, to any depth: level by level, so that
-- nothing comes to refer to it, and nothing of it changes, before the transaction's end. The rows themselves are locked already.
CREATE FUNCTION ops.lock_dependents(relation regclass, condition text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH RECURSIVE going AS (
            SELECT lock_dependents.relation AS relation, 'r0' AS name, ARRAY[lock_dependents.relation::oid] AS path,
                lock_dependents.condition COLLATE "C" AS condition, 'cascade' AS action
            UNION ALL
            SELECT k.child, 'r' || cardinality(g.path), g.path || k.child::oid,
                format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', g.relation, g.name, (
                    SELECT string_agg(format('r%s.%I = %s.%I', cardinality(g.path), u.child, g.name, u.parent), ' AND ')
                    FROM unnest(k.child_columns, k.parent_columns) AS u (child, parent)), g.condition),
                k.action
            FROM going g CROSS JOIN LATERAL ops.references_to(g.relation) k
            WHERE g.action = 'cascade' AND (k.action = 'set_null' OR k.action = 'cascade' AND k.child <> ALL (g.path))
        )
        SELECT format('SELECT FROM %s %s WHERE %s FOR UPDATE OF %2$s', g.relation, g.name, g.condition)
        FROM going g WHERE cardinality(g.path) > 1 ORDER BY cardinality(g.path), g.relation::text
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
COMMENT ON FUNCTION ops.lock_dependents IS 'Locks what goes along with rows of a table or is changed, to any depth.';

-- ---------------------------------------------------------------------------------------------------- who may refuse

-- Whether a row of a table goes along with r0, a row of `root`, by cascades of at most so many steps: as SQL over an alias; NULL where
-- none leads there.
CREATE FUNCTION ops.goes_along(relation regclass, alias text, root regclass, most integer) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    above CONSTANT text := 'w' || most;
    said text[] := '{}';
    inside text;
    key record;
BEGIN
    FOR key IN SELECT k.confrelid::regclass AS parent, array_agg(c.attname ORDER BY u.place) AS own, array_agg(p.attname ORDER BY u.place) AS theirs
        FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (child, parent, place)
        JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = u.child
        JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.parent
        WHERE k.conrelid = goes_along.relation AND k.contype = 'f' AND k.confdeltype = 'c' AND k.conparentid = 0 AND most > 0
        GROUP BY k.oid, k.conname, k.confrelid ORDER BY k.conname
    LOOP
        IF key.parent = root THEN
            SELECT said || string_agg(format('%s.%I = r0.%I', alias, u.own, u.theirs), ' AND ') INTO said
            FROM unnest(key.own, key.theirs) AS u (own, theirs);
        END IF;
        inside := ops.goes_along(key.parent, above, root, most - 1);
        IF inside IS NOT NULL THEN
            SELECT said || format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', key.parent, above,
                string_agg(format('%s.%I = %s.%I', above, u.theirs, alias, u.own), ' AND '), inside) INTO said
            FROM unnest(key.own, key.theirs) AS u (own, theirs);
        END IF;
    END LOOP;
    RETURN NULLIF(array_to_string(said, ' OR '), '');
END
$$;
COMMENT ON FUNCTION ops.goes_along IS 'Whether a row goes along with a row of another table, as SQL.';

-- As 0037 has it, but that a row which goes along itself refuses nothing. It has to go no later than what it refers to: Postgres asks
-- when that has gone, level by level.
CREATE OR REPLACE FUNCTION ops.kept_condition(relation regclass, holds boolean, above oid[]) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    here CONSTANT text := 'r' || cardinality(above);
    below CONSTANT text := 'r' || cardinality(above) + 1;
    root CONSTANT regclass := COALESCE(above[1], relation::oid);
    said text[] := array_remove(ARRAY[CASE WHEN holds THEN ops.own_holds(relation, here) END], NULL);
    condition text;
    key record;
BEGIN
    FOR key IN SELECT * FROM ops.references_to(relation) k WHERE k.child <> ALL (above || relation::oid) OR k.action <> 'cascade' LOOP
        condition := CASE
            WHEN key.action = 'cascade' THEN ops.kept_condition(key.child, holds, above || relation::oid)
            WHEN key.action = 'set_null' AND holds THEN ops.own_holds(key.child, below)
            WHEN key.action = 'refuse' AND NOT holds THEN COALESCE('(' || ops.goes_along(key.child, below, root,
                LEAST(cardinality(above), (SELECT min(d.depth) FROM ops.dependents(root) d
                    WHERE d.child = kept_condition.relation AND d.action = 'cascade'))) || ') IS NOT TRUE', 'true') END;
        CONTINUE WHEN condition IS NULL;
        SELECT said || format('EXISTS (SELECT FROM %s %s WHERE %s AND (%s))', key.child, below,
            string_agg(format('%s.%I = %s.%I', below, u.child, here, u.parent), ' AND '), condition) INTO said
        FROM unnest(key.child_columns, key.parent_columns) AS u (child, parent);
    END LOOP;
    RETURN NULLIF(array_to_string(said, ' OR '), '');
END
$$;

-- ---------------------------------------------------------------------------------------------------- months that were brought back

ALTER TABLE ops.archives ADD COLUMN age_column text,
    ADD CONSTRAINT archives_age_column_check CHECK (age_column ~ '^[a-z_][a-z0-9_]*$' AND length(age_column) <= 63);
COMMENT ON COLUMN ops.archives.age_column IS 'What its month is of; NULL of one whose policy was gone when this was asked for';
UPDATE ops.archives a SET age_column = p.age_column FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id
WHERE r.id = a.run_id AND (p.table_schema, p.table_name) = (a.table_schema, a.table_name);

-- What was brought back of a table and is let be for a while, as SQL over r0; NULL where nothing was.
CREATE FUNCTION ops.restored_condition(policy ops.retention_policies) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' AS $$
    SELECT string_agg(DISTINCT format('r0.%1$I >= %2$L AND r0.%1$I < %3$L', COALESCE(a.age_column, policy.age_column),
        a.month::timestamptz, a.month::timestamptz + interval '1 month'), ' OR ')
    FROM ops.archives a
    WHERE (a.table_schema, a.table_name) = (policy.table_schema, policy.table_name) AND a.restored_until > now()
$$;
COMMENT ON FUNCTION ops.restored_condition IS 'What was brought back of a policy''s table and is let be, as SQL over r0.';

-- ---------------------------------------------------------------------------------------------------- edits of functions

DO $$
DECLARE
    edit record;
    known text;
BEGIN
    FOR edit IN SELECT * FROM (VALUES
        ('ops.empty_archive', $q$    IF NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN$q$,
            $q$    IF NOT ops.is_keyed(scope.relation) AND NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN
        gone := ops.empty_equals(scope.relation, key, refers, goes, rows);
    ELSIF NOT EXISTS (SELECT FROM ops.references_to(scope.relation)) THEN$q$),
        -- what a hold came to speak of, at whatever depth, before it was locked keeps the row
        ('ops.erase_taken', $q$    along jsonb;
BEGIN
$q$, $q$    along jsonb;
    held CONSTANT text := ops.held_condition(relation);
BEGIN
    IF held IS NOT NULL THEN
        PERFORM ops.lock_dependents(relation, rows);
        rows := format('%s AND NOT (%s)', rows, held);
    END IF;
$q$),
        ('ops.take_page', $q$%s',
            page.places, age_column, page.first, page.last, page.tables, page.places,
            -- what came to refer to them before they were locked, and a hold speaks of, keeps them
            ' AND NOT (' || ops.held_condition(relation) || ')'), page.size);$q$,
            $q$',
            page.places, age_column, page.first, page.last, page.tables, page.places), page.size);$q$),
        ('ops.clear_month', $q$%s',
        month.key, month.since, month.key, month.until, page.places,
        ' AND NOT (' || ops.held_condition(month.relation) || ')'), page.size);$q$,
            $q$',
        month.key, month.since, month.key, month.until, page.places), page.size);$q$),
        ('ops.taken_condition', $q$        || COALESCE((SELECT ' AND NOT (' || string_agg(DISTINCT format('r0.%1$I >= %2$L AND r0.%1$I < %3$L', p.age_column,
                a.month::timestamptz, a.month::timestamptz + interval '1 month'), ' OR ') || ')'
            FROM ops.archives a WHERE p.action = 'archive' AND (a.table_schema, a.table_name) = (p.table_schema, p.table_name)
                AND a.restored_until > now()), '')$q$,
            $q$        || COALESCE(' AND (' || ops.restored_condition(p) || ') IS NOT TRUE', '')$q$),
        ('ops.months_to_go', $q$AND p.action = 'drop_partition'
$q$, $q$AND p.action = 'drop_partition'
        -- what was brought back by another time may be in any of them
        AND NOT EXISTS (SELECT FROM ops.archives a WHERE (a.table_schema, a.table_name) = (p.table_schema, p.table_name)
            AND a.restored_until > now() AND (a.age_column IS DISTINCT FROM t.key
                OR m.since < (a.month + interval '1 month') AT TIME ZONE 'UTC' AND m.until > a.month::timestamp AT TIME ZONE 'UTC'))
$q$),
        -- What of an archive is written where is checked against its manifest; whatever is noted, these are never among it.
        ('ops.restore_page', $q$    IF NOT FOUND THEN
        RETURN;
    END IF;
$q$, $q$    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF ops.is_secret(to_regclass(stored."table")) OR stored."table" ~ '^(ops[.](retention|archive|released|installation)|identity[.]tenants$)' THEN
        RAISE EXCEPTION 'no archive has rows of %', stored."table" USING ERRCODE = '42501',
            HINT = 'Look with `greenroom retention archives --verify` at what the archives say.';
    END IF;
$q$)
    ) AS e (function, said, says) LOOP
        known := pg_get_functiondef(edit.function::regproc);
        ASSERT strpos(known, edit.said) > 0, edit.function || ' is another one';
        EXECUTE replace(known, edit.said, edit.says);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- names that say what they are

ALTER FUNCTION ops.archive_month RENAME TO month_to_archive;
ALTER FUNCTION ops.archives_whole RENAME TO takes_whole_month;
ALTER FUNCTION ops.archive_list RENAME TO listed_columns;
DO $$
DECLARE
    known text;
BEGIN
    FOR known IN SELECT pg_get_functiondef(p.oid) FROM pg_proc p
        WHERE p.pronamespace = 'ops'::regnamespace AND p.prosrc LIKE '%ops.archive\_list(%' LOOP
        EXECUTE replace(known, 'ops.archive_list(', 'ops.listed_columns(');
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- what nobody calls

DROP FUNCTION ops.run_retention, ops.run_months, ops.begin_months, ops.end_months;

REVOKE EXECUTE ON FUNCTION ops.is_keyed, ops.empty_equals, ops.lock_dependents, ops.goes_along, ops.restored_condition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.is_keyed TO greenroom_system;
