-- Rows of archives come back as they were: what a trigger would alter, refuse or note was altered, judged and noted when they were first
-- written. What the deletion took away, such as counts, is given back.

-- ---------------------------------------------------------------------------------------------------- triggers

-- Whether the one who writes is the owner, in a session of the system role or of the owner.
CREATE FUNCTION ops.may_restore() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT current_user = pg_get_userbyid(n.nspowner)
        AND (session_user = current_user OR pg_has_role(session_user, 'greenroom_system', 'MEMBER'))
    FROM pg_namespace n WHERE n.nspname = 'ops'
$$;
COMMENT ON FUNCTION ops.may_restore IS 'Whether rows are written by a function of the owner''s that the system role called.';

-- Whether rows of an archive are being written. A setting may be written by anybody, so it counts where that holds too. Triggers ask
-- it, for whoever writes: it is inlined there, and costs an insert a look at a setting.
CREATE FUNCTION ops.is_restoring() RETURNS boolean LANGUAGE sql STABLE
    RETURN COALESCE(current_setting('app.restoring', true) = 'on', false) AND ops.may_restore();
COMMENT ON FUNCTION ops.is_restoring IS 'Whether rows of an archive are being written, which triggers neither alter nor refuse nor note.';

-- What alters, refuses or notes a new row, and what dates a conversation whose messages are counted. What gives back what the deletion took
-- is not among them: start_count and count_added, note_contact, note_key_made, note_activity, note_added.
DO $$
DECLARE
    known text;
BEGIN
    FOR known IN
        SELECT pg_get_triggerdef(t.oid)
        FROM (VALUES
            ('assistants.agents', 'note_agent'),
            ('assistants.conversations', 'settle'),
            ('assistants.conversations', 'touch'),
            ('assistants.messages', 'name_speaker'),
            ('assistants.personas', 'log_change'),
            ('governance.agent_sessions', 'check_approval'),
            ('governance.agent_sessions', 'check_references'),
            ('governance.agent_sessions', 'log_change'),
            ('governance.governance_events', 'copy_session'),
            ('governance.governance_events', 'log_change'),
            ('identity.api_keys', 'log_change'),
            ('identity.users', 'log_change'),
            ('identity.users', 'refuse_promotion_at_first'),
            ('knowledge.chunks', 'add_terms'),
            ('knowledge.rag_queries', 'note_retrieval'),
            ('mail.emails', 'note_email'),
            ('people.mapper_configs', 'number'),
            ('queue.tasks_history', 'document_follows'),
            ('tools.mcp_server_configs', 'check_mcp_server'),
            ('tools.mcp_server_configs', 'check_references'),
            ('tools.mcp_tool_executions', 'check_mcp_server'),
            ('tools.mcp_tool_executions', 'check_message'),
            ('tools.mcp_tool_executions', 'note_call'),
            ('tools.persona_tools', 'check_references'),
            ('tools.tool_executions', 'check_message'),
            ('tools.tool_executions', 'note_call'),
            ('vault.provider_keys', 'log_change'),
            ('vault.secrets', 'log_change')
        ) AS listed (relation, name)
        LEFT JOIN pg_trigger t ON t.tgrelid = listed.relation::regclass AND t.tgname = listed.name
    LOOP
        ASSERT known IS NOT NULL, 'a trigger is not there';
        EXECUTE replace(CASE strpos(known, ' WHEN (')
            WHEN 0 THEN replace(known, ' EXECUTE FUNCTION ', ' WHEN (NOT ops.is_restoring()) EXECUTE FUNCTION ')
            ELSE regexp_replace(known, ' WHEN \((.*)\) EXECUTE FUNCTION ', ' WHEN ((\1) AND NOT ops.is_restoring()) EXECUTE FUNCTION ')
        END, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- rows

-- The columns of an archived file that its table has today and that are not left out: the number of each in the file, whether it is of
-- the key, and whether a text may be no value of it, or be cut: of another type before, or of a length. What is generated is
-- generated anew.
CREATE FUNCTION ops.restorable_columns(relation regclass, columns jsonb, without text[])
    RETURNS TABLE (number bigint, name name, type text, is_key boolean, is_checked boolean) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.number, a.attname, format_type(a.atttypid, a.atttypmod), k.is_key,
        k.type <> c.archived ->> 'type' OR a.atttypmod > -1 AND k.type ~ '^(character|bit)'
    FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (archived, number)
    JOIN ops.archive_columns(relation) k ON k.name = c.archived ->> 'name'
    JOIN pg_attribute a ON a.attrelid = relation AND a.attname = k.name AND a.attgenerated = ''
    WHERE NOT k.name = ANY (without)
$$;
COMMENT ON FUNCTION ops.restorable_columns IS 'Columns of an archived file that its table still has.';

-- What is wrong with a row `p` that has these columns, as a CASE: what it refers to is gone, or its tenant is deleted. It may refer to a
-- row of its own page, where that is named.
CREATE FUNCTION ops.orphan_case(relation regclass, columns name[], page text) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT COALESCE('CASE ' || string_agg(format('WHEN %s THEN %L', c.condition, c.reason), ' ' ORDER BY c.reason) || ' END', 'NULL::text')
    FROM (
        SELECT format('num_nulls(%s) = 0 AND NOT EXISTS (SELECT FROM %s f WHERE %s)', f.own, f.parent, f.matched)
            || CASE WHEN f.parent = relation AND page IS NOT NULL THEN format(' AND NOT EXISTS (SELECT FROM %I f WHERE %s)', page, f.matched) ELSE '' END
            AS condition, format('%s: no such row in %s', f.names, f.parent) AS reason
        FROM (
            SELECT k.confrelid::regclass AS parent, string_agg(format('p.%I', a.attname), ', ') AS own,
                string_agg(format('f.%I = p.%I', r.attname, a.attname), ' AND ') AS matched,
                string_agg(a.attname, ', ' ORDER BY u.position) FILTER (WHERE a.attname <> 'tenant_id' OR cardinality(k.conkey) = 1) AS names
            FROM pg_constraint k, unnest(k.conkey, k.confkey) WITH ORDINALITY AS u (number, referred, position)
            JOIN pg_attribute a ON a.attnum = u.number JOIN pg_attribute r ON r.attnum = u.referred
            WHERE k.conrelid = relation AND k.contype = 'f' AND k.conparentid = 0 AND a.attrelid = k.conrelid AND r.attrelid = k.confrelid
            GROUP BY k.oid HAVING bool_and(a.attname = ANY (columns))
        ) AS f
        UNION ALL
        SELECT 'EXISTS (SELECT FROM identity.tenants t WHERE t.id = p.tenant_id AND t.status = ''deleted'')', 'tenant_id: the tenant is deleted'
        WHERE 'tenant_id' = ANY (columns)
    ) AS c
$$;
COMMENT ON FUNCTION ops.orphan_case IS 'A CASE that says what an archived row refers to that is gone.';

-- The statement that writes rows of a page ($1: an array of objects by the number of the column; from the $2-nd to the $3-rd): those that
-- are not there and can be. It returns how many it wrote, were there, were there otherwise, and by reason were refused.
CREATE FUNCTION ops.restoring_rows(relation regclass, columns jsonb, without text[]) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format($q$
WITH page AS MATERIALIZED (
    SELECT * FROM (SELECT row_number() OVER () AS "#", q.* FROM json_to_recordset($1) AS q (%2$s)) AS p WHERE p."#" BETWEEN $2 AND $3
), checked AS MATERIALIZED (
    SELECT p.*, %3$s AS "#reason" FROM page p
), typed AS MATERIALIZED (
    SELECT p."#", %4$s FROM checked p WHERE p."#reason" IS NULL
), there AS MATERIALIZED (
    SELECT p."#", %5$s AS is_different FROM typed p JOIN %1$s t ON %6$s
), judged AS MATERIALIZED (
    SELECT p.*, %7$s AS "#reason" FROM typed p WHERE NOT EXISTS (SELECT FROM there t WHERE t."#" = p."#")
), added AS (
    INSERT INTO %1$s (%8$s) OVERRIDING SYSTEM VALUE SELECT %8$s FROM judged j WHERE j."#reason" IS NULL ORDER BY j."#"
    ON CONFLICT DO NOTHING RETURNING 1
), refused AS (
    SELECT c."#reason" AS reason, count(*) AS rows FROM checked c WHERE c."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT j."#reason", count(*) FROM judged j WHERE j."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT 'another row has a key of it that is unique', j.rows - a.rows
    FROM (SELECT count(*) AS rows FROM judged WHERE "#reason" IS NULL) AS j, (SELECT count(*) AS rows FROM added) AS a WHERE j.rows > a.rows
)
SELECT (SELECT count(*) FROM added) AS written, (SELECT count(*) FROM there WHERE NOT is_different) AS same,
    (SELECT count(*) FROM there WHERE is_different) AS other, (SELECT jsonb_object_agg(r.reason, r.rows) FROM refused r) AS refused$q$,
        relation, string_agg(format('"%s" text', c.number), ', '),
        COALESCE('CASE ' || string_agg(format('WHEN NOT pg_input_is_valid(p."%s", %L) THEN %L', c.number, c.type,
            format('%s: no value of the type %s, which it has now', c.name, c.type)), ' ') FILTER (WHERE c.is_checked) || ' END',
            'NULL::text'),
        string_agg(format('p."%s"::%s AS %I', c.number, c.type, c.name), ', '),
        COALESCE(string_agg(format('t.%1$I::text IS DISTINCT FROM p.%1$I::text', c.name), ' OR ') FILTER (WHERE NOT c.is_key), 'false'),
        string_agg(format('t.%1$I = p.%1$I', c.name), ' AND ') FILTER (WHERE c.is_key),
        ops.orphan_case(relation, array_agg(c.name), 'typed'),
        string_agg(quote_ident(c.name), ', '))
    FROM ops.restorable_columns(relation, columns, without) c
$$;
COMMENT ON FUNCTION ops.restoring_rows IS 'The statement that writes archived rows to their table.';

-- What a file of links sets: the columns that the deletion emptied, of the reference whose columns are the file's, beside the key.
CREATE FUNCTION ops.cleared_columns(relation regclass, columns jsonb) RETURNS name[] LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.cleared_columns FROM pg_constraint k CROSS JOIN LATERAL ops.references_to(k.confrelid) r
    WHERE k.conrelid = relation AND k.contype = 'f' AND r.child = relation AND r.constraint_name = k.conname AND r.action = 'set_null'
        AND r.child_columns::text[] <@ ARRAY(SELECT f.archived ->> 'name' FROM jsonb_array_elements(columns) AS f (archived))
    ORDER BY cardinality(r.child_columns) DESC, r.constraint_name LIMIT 1
$$;
COMMENT ON FUNCTION ops.cleared_columns IS 'The columns that a file of links sets again.';

-- The statement that sets references again, as the one above: of rows that are there, and whose columns are NULL as the deletion left them.
CREATE FUNCTION ops.restoring_links(relation regclass, columns jsonb, without text[]) RETURNS text LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT format($q$
WITH typed AS MATERIALIZED (
    SELECT p."#", %3$s FROM (SELECT row_number() OVER () AS "#", q.* FROM json_to_recordset($1) AS q (%2$s)) AS p
    WHERE p."#" BETWEEN $2 AND $3
), there AS MATERIALIZED (
    SELECT p.*%4$s, num_nonnulls(%5$s) = 0 AS "#empty", (%6$s) AS "#same" FROM typed p JOIN %1$s t ON %7$s
), judged AS MATERIALIZED (
    SELECT p.*, %8$s AS "#reason" FROM there p WHERE p."#empty"
), linked AS (
    UPDATE %1$s t SET %9$s FROM judged p WHERE p."#reason" IS NULL AND %7$s RETURNING 1
), refused AS (
    SELECT j."#reason" AS reason, count(*) AS rows FROM judged j WHERE j."#reason" IS NOT NULL GROUP BY 1
    UNION ALL SELECT %10$L, w.rows - t.rows FROM (SELECT count(*) AS rows FROM typed) AS w, (SELECT count(*) AS rows FROM there) AS t
    WHERE w.rows > t.rows
)
SELECT (SELECT count(*) FROM linked) AS written, (SELECT count(*) FROM there WHERE NOT "#empty" AND "#same") AS same,
    (SELECT count(*) FROM there WHERE NOT "#empty" AND NOT "#same") AS other,
    (SELECT jsonb_object_agg(r.reason, r.rows) FROM refused r) AS refused$q$,
        relation, string_agg(format('"%s" text', c.number), ', '), string_agg(format('p."%s"::%s AS %I', c.number, c.type, c.name), ', '),
        (SELECT string_agg(format(', t.%I', a.attname), '') FROM pg_attribute a
         WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attname = ANY (array_agg(c.name))),
        string_agg(format('t.%I', c.name), ', ') FILTER (WHERE c.is_set),
        string_agg(format('t.%1$I IS NOT DISTINCT FROM p.%1$I', c.name), ' AND ') FILTER (WHERE c.is_set),
        string_agg(format('t.%1$I = p.%1$I', c.name), ' AND ') FILTER (WHERE c.is_key),
        ops.orphan_case(relation, ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0), NULL),
        string_agg(format('%1$I = p.%1$I', c.name), ', ') FILTER (WHERE c.is_set),
        format('no such row in %s any more, which referred to it', relation))
    FROM (SELECT r.*, r.name = ANY (ops.cleared_columns(relation, columns)) AS is_set
          FROM ops.restorable_columns(relation, columns, without) r) AS c
    HAVING bool_or(c.is_set)
$$;
COMMENT ON FUNCTION ops.restoring_links IS 'The statement that sets references to archived rows again.';

-- Write a page of an archived file back: `rows` is an array of objects, by the number of the column its text. NULLs where the file is not
-- the archive's any more, which was rewritten meanwhile: it is locked against that. Halved until it is known which rows a rule refuses.
CREATE FUNCTION ops.restore_page(archive uuid, file text, without text[], rows json, OUT written bigint, OUT same bigint, OUT other bigint,
    OUT refused jsonb) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
    SET datestyle = 'ISO' SET timezone = 'UTC' SET intervalstyle = 'postgres' SET bytea_output = 'hex' SET extra_float_digits = 1 AS $$
DECLARE
    stored record;
    statement text;
    counted record;
    lows integer[] := ARRAY[1];
    highs integer[] := ARRAY[json_array_length(rows)];
    low integer;
    high integer;
    broken text;
    state text;
BEGIN
    PERFORM FROM ops.archives a WHERE a.id = archive FOR SHARE;
    SELECT f.* INTO stored FROM ops.archives a, jsonb_to_recordset(a.files) AS f (key text, "table" text, kind text, columns jsonb)
    WHERE a.id = archive AND a.status IN ('verified', 'emptied') AND f.key = file;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    statement := CASE stored.kind WHEN 'links' THEN ops.restoring_links(stored."table"::regclass, stored.columns, without)
        ELSE ops.restoring_rows(stored."table"::regclass, stored.columns, without) END;
    SELECT 0, 0, 0, '{}' INTO written, same, other, refused;
    IF statement IS NULL THEN
        refused := jsonb_build_object('nothing of it is a column any more', json_array_length(rows));
        RETURN;
    END IF;
    PERFORM set_config('app.restoring', 'on', true);
    WHILE cardinality(lows) > 0 LOOP
        low := lows[cardinality(lows)];
        high := highs[cardinality(highs)];
        lows := trim_array(lows, 1);
        highs := trim_array(highs, 1);
        BEGIN
            EXECUTE statement INTO counted USING rows, low, high;
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME, state = RETURNED_SQLSTATE;
            IF low < high THEN
                lows := lows || ARRAY[(low + high) / 2 + 1, low];
                highs := highs || ARRAY[high, (low + high) / 2];
                CONTINUE;
            END IF;
            SELECT 0::bigint AS written, 0::bigint AS same, 0::bigint AS other,
                jsonb_build_object('refused by ' || COALESCE(NULLIF(broken, ''), 'the error ' || state), 1) AS refused INTO counted;
        END;
        written := written + counted.written;
        same := same + counted.same;
        other := other + counted.other;
        refused := (SELECT COALESCE(jsonb_object_agg(r.key, r.rows), '{}') FROM (
            SELECT e.key, sum(e.value::bigint) AS rows FROM (SELECT * FROM jsonb_each(refused)
                UNION ALL SELECT * FROM jsonb_each(counted.refused)) AS e GROUP BY e.key) AS r);
    END LOOP;
    PERFORM set_config('app.restoring', '', true);
END
$$;
COMMENT ON FUNCTION ops.restore_page IS 'Writes a page of an archived file back to its table, but what is there.';

-- Make the month of a parted table that archived rows belong to; false where somebody holds what ATTACH must lock: later again. Of a table
-- without months, and where the month is there, true.
CREATE FUNCTION ops.restore_month(relation text, month date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '50ms' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ops.parted_tables() t WHERE t.relation = to_regclass(restore_month.relation))
        OR EXISTS (SELECT FROM ops.months() m WHERE m.relation = to_regclass(restore_month.relation)
            AND m.since <= month::timestamptz AND month::timestamptz < m.until) THEN
        RETURN true;
    END IF;
    RETURN ops.create_month(relation::regclass, month::timestamptz) IS NOT NULL;
EXCEPTION
    WHEN lock_not_available OR deadlock_detected OR duplicate_table OR duplicate_object OR unique_violation THEN
        RETURN false;
END
$$;
COMMENT ON FUNCTION ops.restore_month IS 'Makes the month that archived rows belong to, unless somebody holds what that takes.';

-- ---------------------------------------------------------------------------------------------------- grants

REVOKE EXECUTE ON FUNCTION ops.restorable_columns, ops.orphan_case, ops.restoring_rows, ops.cleared_columns, ops.restoring_links,
    ops.restore_page, ops.restore_month FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.restore_page, ops.restore_month TO greenroom_system;
