-- As 0038 to 0041 have it.

DO $$
DECLARE
    edit record;
    known text;
BEGIN
    FOR edit IN SELECT * FROM (VALUES
        ('ops.archive_scope', $q$AND NOT p.is_held AND p.action = 'archive'
        AND (p.table_schema, p.table_name) = (r.table_schema, r.table_name);$q$,
            $q$AND NOT p.is_held AND p.action = 'archive';$q$),
        ('ops.drop_archived', $q$emptied_at = GREATEST(clock_timestamp(), a.verified_at),
        rows_deleted = a.row_count$q$,
            $q$emptied_at = clock_timestamp(), rows_deleted = a.row_count$q$),
        ('ops.forget_deleted', $q$OR EXISTS (SELECT FROM ops.archives a WHERE a.status = 'writing')
            OR current_setting('transaction_isolation') <> 'read committed') -- which does not see what began since it did$q$,
            $q$OR EXISTS (SELECT FROM ops.archives a WHERE a.status = 'writing'))$q$),
        ('ops.restore_page', $q$    -- Where no unique index tells that a row is there already, two would both write it.
    PERFORM pg_advisory_xact_lock(hashtextextended('ops.restore_page ' || stored."table", 0));
    statement := CASE stored.kind WHEN 'links'$q$,
            $q$    statement := CASE stored.kind WHEN 'links'$q$),
        ('ops.begin_retention', $q$    IF (known.action, known.table_schema, known.table_name) <> (policy.action, policy.table_schema, policy.table_name) THEN
        UPDATE ops.retention_runs r SET status = 'cancelled', ended_at = clock_timestamp() WHERE r.id = known.id;
        known := NULL;
    END IF;
    run := known.id;
    state := 'running';$q$,
            $q$    run := known.id;
    state := 'running';$q$),
        ('ops.take_page', $q$            'AND (r0.tableoid, r0.ctid) IN (SELECT * FROM unnest(%L::oid[], %L::tid[]))%s',
            page.places, age_column, page.first, page.last, page.tables, page.places,
            -- what came to refer to them before they were locked, and a hold speaks of, keeps them
            ' AND NOT (' || ops.held_condition(relation) || ')'), page.size);$q$,
            $q$            'AND (r0.tableoid, r0.ctid) IN (SELECT * FROM unnest(%L::oid[], %L::tid[]))',
            page.places, age_column, page.first, page.last, page.tables, page.places), page.size);$q$),
        ('ops.clear_month', $q$format('r0.%I >= %L AND r0.%I < %L AND r0.ctid = ANY (%L::tid[])%s',
        month.key, month.since, month.key, month.until, page.places,
        ' AND NOT (' || ops.held_condition(month.relation) || ')'), page.size);$q$,
            $q$format('r0.%I >= %L AND r0.%I < %L AND r0.ctid = ANY (%L::tid[])',
        month.key, month.since, month.key, month.until, page.places), page.size);$q$),
        ('ops.taken_condition', $q$date_trunc('hour', cutoff)) ELSE '' END
        -- a month that was brought back is let be for a while
        || COALESCE((SELECT ' AND NOT (' || string_agg(DISTINCT format('r0.%1$I >= %2$L AND r0.%1$I < %3$L', p.age_column,
                a.month::timestamptz, a.month::timestamptz + interval '1 month'), ' OR ') || ')'
            FROM ops.archives a WHERE p.action = 'archive' AND (a.table_schema, a.table_name) = (p.table_schema, p.table_name)
                AND a.restored_until > now()), '')
    FROM$q$,
            $q$date_trunc('hour', cutoff)) ELSE '' END
    FROM$q$),
        ('ops.weigh_retention', $q$    SELECT COALESCE(max(p.updated_at), '-infinity') INTO changed FROM ops.retention_policies p
    WHERE p.id = known.policy_id AND p.updated_at <= now();
    IF known.rows_planned IS NULL OR changed > known.started_at THEN$q$,
            $q$    IF known.rows_planned IS NULL THEN$q$),
        ('ops.weigh_retention', $q$CASE WHEN COALESCE(r.confirmed_at < changed, true) AND planned$q$,
            $q$CASE WHEN r.confirmed_at IS NULL AND planned$q$),
        ('ops.weigh_retention', $q$    said text;
    changed timestamptz; -- by then, and after a count or an answer it asks anew
$q$,
            $q$    said text;
$q$),
        ('ops.begin_retention', $q$CASE WHEN is_confirmed AND (r.confirmed_at IS NULL OR r.status = 'asking') THEN now() ELSE$q$,
            $q$CASE WHEN is_confirmed THEN COALESCE(r.confirmed_at, now()) ELSE$q$),
        ('ops.check_retention_policy', $q$'ops.retention_policies', 'ops.retention_runs',
                'ops.archives', 'ops.archive_subjects', 'ops.released_files') -- without these files are of nobody$q$,
            $q$'ops.retention_policies', 'ops.retention_runs')$q$)
    ) AS e (function, said, says) LOOP
        known := pg_get_functiondef(edit.function::regproc);
        ASSERT strpos(known, edit.said) > 0, edit.function || ' is another one';
        EXECUTE replace(known, edit.said, edit.says);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION ops.archive_columns(relation regclass) RETURNS TABLE (name name, type text, is_key boolean) LANGUAGE sql STABLE
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
