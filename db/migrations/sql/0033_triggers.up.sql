-- What triggers keep costs a statement once, however many rows it writes, and takes its locks in one order: two statements that write
-- rows of the same conversations, clients or users wait for each other and do not die of it. Several statements of one transaction are
-- its writer's to order.

-- ---------------------------------------------------------------------------------------------------- messages

CREATE OR REPLACE FUNCTION assistants.count_messages() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM assistants.conversations c WHERE c.id = ANY (ARRAY(SELECT DISTINCT conversation_id FROM changes))
    ORDER BY c.id FOR NO KEY UPDATE;
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE TG_OP WHEN 'INSERT' THEN changed.messages ELSE -changed.messages END, 0)
    FROM (SELECT conversation_id, tenant_id, count(*)::integer AS messages FROM changes GROUP BY 1, 2) AS changed
    WHERE c.id = changed.conversation_id AND c.tenant_id = changed.tenant_id;
    RETURN NULL;
END
$$;

-- A message that moves is counted where it went, also to another month. Every update of messages comes here.
CREATE OR REPLACE FUNCTION assistants.count_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved CONSTANT uuid[] := ARRAY(SELECT x.conversation_id FROM (
        SELECT conversation_id, 1 AS n FROM after UNION ALL SELECT conversation_id, -1 FROM before
    ) AS x GROUP BY x.conversation_id HAVING sum(x.n) <> 0);
BEGIN
    IF moved = '{}' THEN
        RETURN NULL;
    END IF;
    PERFORM FROM assistants.conversations c WHERE c.id = ANY (moved) ORDER BY c.id FOR NO KEY UPDATE;
    UPDATE assistants.conversations c SET message_count = GREATEST(c.message_count + changed.messages, 0)
    FROM (
        SELECT x.conversation_id, x.tenant_id, sum(x.n)::integer AS messages FROM (
            SELECT conversation_id, tenant_id, 1 AS n FROM after UNION ALL SELECT conversation_id, tenant_id, -1 FROM before
        ) AS x GROUP BY 1, 2
    ) AS changed
    WHERE c.id = ANY (moved) AND c.id = changed.conversation_id AND c.tenant_id = changed.tenant_id;
    RETURN NULL;
END
$$;
DROP TRIGGER count_moved ON assistants.messages;
CREATE TRIGGER count_moved AFTER UPDATE ON assistants.messages REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION assistants.count_moved();

-- ---------------------------------------------------------------------------------------------------- conversations

CREATE OR REPLACE FUNCTION assistants.note_contact() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM assistants.clients c WHERE c.id = ANY (ARRAY(SELECT DISTINCT client_id FROM after)) ORDER BY c.id FOR NO KEY UPDATE;
    UPDATE assistants.clients c SET last_contact = made.started_at
    FROM (SELECT client_id, tenant_id, max(started_at) AS started_at FROM after WHERE client_id IS NOT NULL GROUP BY 1, 2) AS made
    WHERE c.id = made.client_id AND c.tenant_id = made.tenant_id AND (c.last_contact IS NULL OR c.last_contact < made.started_at);
    RETURN NULL;
END
$$;
DROP TRIGGER note_contact ON assistants.conversations;
CREATE TRIGGER note_contact AFTER INSERT ON assistants.conversations REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION assistants.note_contact();

-- A conversation that turns out to be another client's, or of another time, was no contact: the client's is that of the others then.
-- One that is deleted was a contact all the same. Every update of conversations comes here, with each message that is counted.
CREATE OR REPLACE FUNCTION assistants.forget_contact() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT client_id, tenant_id, started_at FROM before EXCEPT SELECT client_id, tenant_id, started_at FROM after)
        AND NOT EXISTS (SELECT client_id, tenant_id, started_at FROM after EXCEPT SELECT client_id, tenant_id, started_at FROM before)
    THEN
        RETURN NULL;
    END IF;
    PERFORM FROM assistants.clients c
    WHERE c.id = ANY (ARRAY(SELECT client_id FROM before UNION SELECT client_id FROM after)) ORDER BY c.id FOR NO KEY UPDATE;
    -- A statement of its own: it sees what was written while the locks were waited for.
    UPDATE assistants.clients c SET last_contact = x.last_contact
    FROM (
        SELECT l.id, CASE
            WHEN EXISTS (SELECT FROM before b WHERE b.client_id = l.id AND b.started_at = l.last_contact)
            THEN (SELECT max(o.started_at) FROM assistants.conversations o WHERE o.client_id = l.id)
            ELSE GREATEST(l.last_contact, (SELECT max(a.started_at) FROM after a WHERE a.client_id = l.id AND a.tenant_id = l.tenant_id)) END
            AS last_contact
        FROM assistants.clients l WHERE l.id = ANY (ARRAY(SELECT client_id FROM before UNION SELECT client_id FROM after))
    ) AS x
    WHERE c.id = x.id AND c.last_contact IS DISTINCT FROM x.last_contact;
    RETURN NULL;
END
$$;
DROP TRIGGER forget_contact ON assistants.conversations;
CREATE TRIGGER forget_contact AFTER UPDATE ON assistants.conversations REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION assistants.forget_contact();

-- ---------------------------------------------------------------------------------------------------- users

CREATE OR REPLACE FUNCTION identity.note_key_use() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM identity.users u JOIN after k ON k.user_id = u.id AND k.tenant_id = u.tenant_id
    WHERE u.last_used_at IS NULL AND k.last_used_at IS NOT NULL OR u.last_used_at < k.last_used_at
    ORDER BY u.id FOR NO KEY UPDATE OF u;
    IF FOUND THEN
        UPDATE identity.users u SET last_used_at = used.at
        FROM (SELECT user_id, tenant_id, max(last_used_at) AS at FROM after GROUP BY 1, 2) AS used
        WHERE u.id = used.user_id AND u.tenant_id = used.tenant_id AND (u.last_used_at IS NULL OR u.last_used_at < used.at);
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER note_key_use ON identity.api_keys;
CREATE TRIGGER note_key_made AFTER INSERT ON identity.api_keys REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION identity.note_key_use();
CREATE TRIGGER note_key_use AFTER UPDATE ON identity.api_keys REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION identity.note_key_use();

CREATE OR REPLACE FUNCTION identity.note_activity() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM identity.users u
    WHERE u.id = ANY (ARRAY(SELECT s.user_id FROM added a JOIN identity.user_sessions s ON s.id = a.user_session_id))
        AND u.last_active_at < (SELECT max(a.created_at) FROM added a) - interval '1 minute'
    ORDER BY u.id FOR NO KEY UPDATE;
    IF FOUND THEN
        UPDATE identity.users u SET last_active_at = done.at
        FROM (SELECT s.user_id, s.tenant_id, max(a.created_at) AS at
              FROM added a JOIN identity.user_sessions s ON s.id = a.user_session_id GROUP BY s.user_id, s.tenant_id) AS done
        WHERE u.id = done.user_id AND u.tenant_id = done.tenant_id AND u.last_active_at < done.at - interval '1 minute';
    END IF;
    RETURN NULL;
END
$$;

-- ---------------------------------------------------------------------------------------------------- numbers and texts

-- The longest of some texts, in bytes: what stands in an index has to fit there.
CREATE FUNCTION ops.longest(texts text[]) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(octet_length(each)) FROM unnest(texts) AS each
$$;
COMMENT ON FUNCTION ops.longest IS 'Bytes of the longest of some texts.';

-- NaN is above all numbers, and so from 0 on: each measure and price is below Infinity. Texts with an index are bounded in bytes.
ALTER TABLE assistants.persona_profiles
    DROP CONSTRAINT persona_profiles_auto_extracted_check,
    ADD CONSTRAINT persona_profiles_auto_extracted_check CHECK (jsonb_typeof(auto_extracted) = 'object' AND NOT auto_extracted @? '$.**{64}'),
    DROP CONSTRAINT persona_profiles_manual_overrides_check,
    ADD CONSTRAINT persona_profiles_manual_overrides_check CHECK (jsonb_typeof(manual_overrides) = 'object' AND NOT manual_overrides @? '$.**{64}');
ALTER TABLE assistants.voice_personas
    DROP CONSTRAINT voice_personas_youtube_url_check,
    ADD CONSTRAINT voice_personas_youtube_url_check CHECK (octet_length(youtube_url) <= 2000 AND length(youtube_url) BETWEEN 1 AND 2000);
ALTER TABLE billing.billing_records
    DROP CONSTRAINT billing_records_amount_check,
    ADD CONSTRAINT billing_records_amount_check CHECK (amount >= 0 AND amount < 'Infinity');
ALTER TABLE billing.subscription_plans
    DROP CONSTRAINT subscription_plans_price_check,
    ADD CONSTRAINT subscription_plans_price_check CHECK (price >= 0 AND price < 'Infinity');
ALTER TABLE billing.usage_metrics
    DROP CONSTRAINT usage_metrics_cost_check,
    ADD CONSTRAINT usage_metrics_cost_check CHECK (cost >= 0 AND cost < 'Infinity');
ALTER TABLE governance.agent_interactions
    DROP CONSTRAINT agent_interactions_token_cost_check,
    ADD CONSTRAINT agent_interactions_token_cost_check CHECK (token_cost >= 0 AND token_cost < 'Infinity');
ALTER TABLE governance.agent_sessions
    DROP CONSTRAINT agent_sessions_estimated_cost_check,
    ADD CONSTRAINT agent_sessions_estimated_cost_check CHECK (estimated_cost >= 0 AND estimated_cost < 'Infinity'),
    DROP CONSTRAINT agent_sessions_max_cost_limit_check,
    ADD CONSTRAINT agent_sessions_max_cost_limit_check CHECK (max_cost_limit >= 0 AND max_cost_limit < 'Infinity'),
    DROP CONSTRAINT agent_sessions_token_cost_check,
    ADD CONSTRAINT agent_sessions_token_cost_check CHECK (token_cost >= 0 AND token_cost < 'Infinity');
ALTER TABLE knowledge.products
    ADD CONSTRAINT products_description_check CHECK (octet_length(description) <= 200000),
    DROP CONSTRAINT products_price_check,
    ADD CONSTRAINT products_price_check CHECK (price >= 0 AND price < 'Infinity');
ALTER TABLE knowledge.rag_queries
    ADD CONSTRAINT rag_queries_result_scores_check CHECK (NOT result_scores && '{NaN,Infinity,-Infinity}'),
    DROP CONSTRAINT rag_queries_top_score_check,
    ADD CONSTRAINT rag_queries_top_score_check CHECK (CASE strategy WHEN 'lexical' THEN top_score >= 0 AND top_score < 'Infinity' ELSE top_score BETWEEN -1 AND 1 END);
ALTER TABLE knowledge.transcript_segments
    ADD CONSTRAINT transcript_segments_timestamp_end_check CHECK (timestamp_end >= 0 AND timestamp_end < 'Infinity'),
    DROP CONSTRAINT transcript_segments_timestamp_start_check,
    ADD CONSTRAINT transcript_segments_timestamp_start_check CHECK (timestamp_start >= 0 AND timestamp_start < 'Infinity'),
    DROP CONSTRAINT transcript_segments_youtube_url_check,
    ADD CONSTRAINT transcript_segments_youtube_url_check CHECK (octet_length(youtube_url) <= 2000 AND length(youtube_url) BETWEEN 1 AND 2000);
ALTER TABLE mail.attachments
    ADD CONSTRAINT attachments_file_path_check CHECK (octet_length(file_path) <= 2000);
ALTER TABLE mail.emails
    DROP CONSTRAINT emails_folder_check,
    ADD CONSTRAINT emails_folder_check CHECK (octet_length(folder) <= 2000 AND length(folder) <= 1000),
    DROP CONSTRAINT emails_message_id_check,
    ADD CONSTRAINT emails_message_id_check CHECK (octet_length(message_id) <= 2000 AND length(message_id) <= 998);
ALTER TABLE mail.folders
    DROP CONSTRAINT folders_name_check,
    ADD CONSTRAINT folders_name_check CHECK (octet_length(name) <= 2000 AND length(name) BETWEEN 1 AND 1000);
ALTER TABLE ops.persona_health_hourly
    DROP CONSTRAINT persona_health_hourly_active_runs_avg_check,
    ADD CONSTRAINT persona_health_hourly_active_runs_avg_check CHECK (active_runs_avg >= 0 AND active_runs_avg < 'Infinity' AND active_runs_avg <= active_runs_max),
    DROP CONSTRAINT persona_health_hourly_active_runs_p95_check,
    ADD CONSTRAINT persona_health_hourly_active_runs_p95_check CHECK (active_runs_p95 >= 0 AND active_runs_p95 < 'Infinity' AND active_runs_p95 <= active_runs_max),
    DROP CONSTRAINT persona_health_hourly_cpu_percent_avg_check,
    ADD CONSTRAINT persona_health_hourly_cpu_percent_avg_check CHECK (cpu_percent_avg >= 0 AND cpu_percent_avg < 'Infinity' AND cpu_percent_avg <= cpu_percent_max),
    DROP CONSTRAINT persona_health_hourly_cpu_percent_p95_check,
    ADD CONSTRAINT persona_health_hourly_cpu_percent_p95_check CHECK (cpu_percent_p95 >= 0 AND cpu_percent_p95 < 'Infinity' AND cpu_percent_p95 <= cpu_percent_max),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_avg_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_avg_check CHECK (disk_usage_gb_avg >= 0 AND disk_usage_gb_avg < 'Infinity' AND disk_usage_gb_avg <= disk_usage_gb_max),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_max_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_max_check CHECK (disk_usage_gb_max >= 0 AND disk_usage_gb_max < 'Infinity'),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_p95_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_p95_check CHECK (disk_usage_gb_p95 >= 0 AND disk_usage_gb_p95 < 'Infinity' AND disk_usage_gb_p95 <= disk_usage_gb_max),
    DROP CONSTRAINT persona_health_hourly_estimated_cost_sum_check,
    ADD CONSTRAINT persona_health_hourly_estimated_cost_sum_check CHECK (estimated_cost_sum >= 0 AND estimated_cost_sum < 'Infinity'),
    DROP CONSTRAINT persona_health_hourly_memory_mb_avg_check,
    ADD CONSTRAINT persona_health_hourly_memory_mb_avg_check CHECK (memory_mb_avg >= 0 AND memory_mb_avg < 'Infinity' AND memory_mb_avg <= memory_mb_max),
    DROP CONSTRAINT persona_health_hourly_memory_mb_p95_check,
    ADD CONSTRAINT persona_health_hourly_memory_mb_p95_check CHECK (memory_mb_p95 >= 0 AND memory_mb_p95 < 'Infinity' AND memory_mb_p95 <= memory_mb_max),
    DROP CONSTRAINT persona_health_hourly_memory_percent_avg_check,
    ADD CONSTRAINT persona_health_hourly_memory_percent_avg_check CHECK (memory_percent_avg >= 0 AND memory_percent_avg < 'Infinity' AND memory_percent_avg <= memory_percent_max),
    DROP CONSTRAINT persona_health_hourly_memory_percent_p95_check,
    ADD CONSTRAINT persona_health_hourly_memory_percent_p95_check CHECK (memory_percent_p95 >= 0 AND memory_percent_p95 < 'Infinity' AND memory_percent_p95 <= memory_percent_max);
ALTER TABLE ops.persona_health_metrics
    DROP CONSTRAINT persona_health_metrics_disk_usage_gb_check,
    ADD CONSTRAINT persona_health_metrics_disk_usage_gb_check CHECK (disk_usage_gb >= 0 AND disk_usage_gb < 'Infinity'),
    DROP CONSTRAINT persona_health_metrics_estimated_cost_check,
    ADD CONSTRAINT persona_health_metrics_estimated_cost_check CHECK (estimated_cost >= 0 AND estimated_cost < 'Infinity');
ALTER TABLE people.narratives
    ADD CONSTRAINT narratives_tags_check CHECK (ops.longest(tags) <= 2000);
ALTER TABLE queue.gauges
    DROP CONSTRAINT gauges_oldest_seconds_check,
    ADD CONSTRAINT gauges_oldest_seconds_check CHECK (oldest_seconds >= 0 AND oldest_seconds < 'Infinity');
ALTER TABLE queue.limit_tokens
    ADD CONSTRAINT limit_tokens_tokens_check CHECK (tokens > '-Infinity' AND tokens < 'Infinity');
ALTER TABLE queue.statistics
    DROP CONSTRAINT statistics_run_seconds_check,
    ADD CONSTRAINT statistics_run_seconds_check CHECK (run_seconds >= 0 AND run_seconds < 'Infinity'),
    DROP CONSTRAINT statistics_run_seconds_max_check,
    ADD CONSTRAINT statistics_run_seconds_max_check CHECK (run_seconds_max >= 0 AND run_seconds_max < 'Infinity'),
    DROP CONSTRAINT statistics_wait_seconds_check,
    ADD CONSTRAINT statistics_wait_seconds_check CHECK (wait_seconds >= 0 AND wait_seconds < 'Infinity'),
    DROP CONSTRAINT statistics_wait_seconds_max_check,
    ADD CONSTRAINT statistics_wait_seconds_max_check CHECK (wait_seconds_max >= 0 AND wait_seconds_max < 'Infinity');
ALTER TABLE tools.tools
    ADD CONSTRAINT tools_description_check CHECK (octet_length(description) <= 200000);

-- ---------------------------------------------------------------------------------------------------- times

-- Of each time that products write: one that drivers cannot hold would keep every row of its page from being read. The queue's are the
-- engine's; what parts a table has its months. A key that never ends is one without an end.
UPDATE identity.api_keys SET expires_at = NULL WHERE expires_at = 'infinity';
DO $$
DECLARE
    checked record;
BEGIN
    FOR checked IN
        SELECT c.oid::regclass AS relation, string_agg(format('ADD CONSTRAINT %I CHECK (%I >= %L AND %I < %L)',
            c.relname || '_' || a.attname || '_range_check', a.attname, '0002-01-01 00:00+00', a.attname, '9999-01-01 00:00+00'), ', ') AS checks
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid = 'timestamptz'::regtype
        LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum IS DISTINCT FROM p.partattrs[0]
            AND c.relnamespace::regnamespace::text IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance',
                'mail', 'vault', 'ops', 'audit')
        GROUP BY c.oid
    LOOP
        EXECUTE format('ALTER TABLE %s %s', checked.relation, checked.checks);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------- what is asked and summed

-- A model's word for its tokens counts where it is a number of tokens. The view is another migration's to write: it is changed where it
-- takes that word.
DO $$
DECLARE
    known CONSTANT text := pg_get_viewdef('billing.token_usage_by_user'::regclass);
    taken CONSTANT text := $q$((m.tokens_used ->> 'total'::text))::numeric$q$;
    changed CONSTANT text := replace(known, taken,
        format('CASE WHEN %s BETWEEN 0 AND 1000000000000 THEN %s ELSE m.token_count::numeric END', taken, taken));
BEGIN
    ASSERT changed <> known, 'billing.token_usage_by_user is another one';
    EXECUTE 'CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS ' || changed;
END
$$;

-- What a search is asked, unless it is longer than anybody asks: a query's time grows with the square of its words, and one of chunks
-- has 16,000 terms at most.
CREATE FUNCTION knowledge.asked(query_text text, most integer DEFAULT 2000) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF length(query_text) > most THEN
        RAISE EXCEPTION 'a query of % characters', length(query_text) USING ERRCODE = '22023', HINT = format('At most %s.', most);
    END IF;
    RETURN query_text;
END
$$;
COMMENT ON FUNCTION knowledge.asked IS 'The words of a query, unless they are too many.';
DO $$
DECLARE
    parsed CONSTANT text := $q$websearch_to_tsquery('english', query_text)$q$;
    weighed CONSTANT text := 'to_tsvector(l.language::regconfig, query_text)';
    searches text;
    known text;
BEGIN
    FOREACH searches IN ARRAY ARRAY['knowledge.find_products', 'tools.find_tools'] LOOP
        CONTINUE WHEN to_regproc(searches) IS NULL;
        known := pg_get_functiondef(to_regproc(searches));
        ASSERT strpos(known, parsed) > 0, searches || ' parses otherwise';
        EXECUTE replace(known, parsed, $q$websearch_to_tsquery('english', knowledge.asked(query_text))$q$);
    END LOOP;
    known := pg_get_functiondef('knowledge.query_terms'::regproc);
    ASSERT strpos(known, weighed) > 0, 'knowledge.query_terms weighs otherwise';
    EXECUTE replace(known, weighed, 'to_tsvector(l.language::regconfig, knowledge.asked(query_text, 10000))');
END
$$;
REVOKE EXECUTE ON FUNCTION knowledge.asked FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------------- months

-- Bounds are written and read in one way, whatever the session's.
ALTER FUNCTION ops.create_month SET datestyle = 'ISO';
ALTER FUNCTION ops.create_month SET timezone = 'UTC';
ALTER FUNCTION queue.create_month SET datestyle = 'ISO';
ALTER FUNCTION queue.create_month SET timezone = 'UTC';

-- Make the months of a table that are missing from `since` up to `until`, so that history can be brought in; returns how many. Each
-- locks what the table refers to until the transaction ends: take few at a time beside the work.
CREATE FUNCTION ops.create_months_of(relation text, since timestamptz, until timestamptz) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    parted CONSTANT regclass := (SELECT c.oid FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.atttypid = 'timestamptz'::regtype
        WHERE c.oid = to_regclass(relation) AND p.partstrat = 'r' AND c.relnamespace::regnamespace::text IN ('identity', 'billing',
            'assistants', 'tools', 'knowledge', 'people', 'governance', 'mail', 'vault', 'ops', 'audit', 'queue'));
    first CONSTANT timestamptz := date_trunc('month', since);
BEGIN
    IF parted IS NULL THEN
        RAISE EXCEPTION '% has no months', relation USING ERRCODE = '22023', HINT = 'A table that is parted by a time, with its schema.';
    END IF;
    IF NOT (isfinite(since) AND isfinite(until) AND since < until AND until <= first + interval '120 months') THEN
        RAISE EXCEPTION 'no months from % to %', since, until USING ERRCODE = '22023', HINT = 'Up to 120 months at a time.';
    END IF;
    RETURN (SELECT count(ops.create_month(parted, month))
        FROM generate_series(first, until - interval '1 microsecond', interval '1 month') AS month);
END
$$;
COMMENT ON FUNCTION ops.create_months_of IS 'Makes the months of a table that are missing between two times, for history to be brought in.';
REVOKE EXECUTE ON FUNCTION ops.create_months_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.create_months_of TO greenroom_system;

-- ---------------------------------------------------------------------------------------------------- mappers

-- As before, and a version that is written is no more than a thousand ahead of the last: numbers do not come to their end. Under
-- REPEATABLE READ a number that another transaction took since the snapshot is a duplicate (23505): the transaction is repeated.
CREATE OR REPLACE FUNCTION people.number_mapper() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('mapper ' || NEW.tenant_id::text || ' ' || NEW.config_id, 0));
    SELECT COALESCE(max(m.version), 0) INTO last FROM people.mapper_configs m
    WHERE m.tenant_id = NEW.tenant_id AND m.config_id = NEW.config_id;
    IF NEW.version = 0 THEN
        NEW.version := last + 1;
    ELSIF NEW.version - 1000 > last THEN
        RAISE EXCEPTION 'version % of mapper %, whose last is %', NEW.version, NEW.config_id, last USING ERRCODE = 'check_violation',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'mapper_configs_version_follows_check',
            HINT = 'At most 1,000 ahead; 0 takes the next one.';
    END IF;
    RETURN NEW;
END
$$;

-- What personas were generated by stays as it was: a change is a new version.
CREATE FUNCTION people.keep_mapper() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'version % of mapper % is no draft', OLD.version, OLD.config_id USING ERRCODE = 'check_violation',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'mapper_configs_stays_check', HINT = 'Write a new version.';
END
$$;
CREATE TRIGGER keep BEFORE UPDATE ON people.mapper_configs FOR EACH ROW
    WHEN (OLD.version <> NEW.version OR OLD.config_id <> NEW.config_id
        OR OLD.status <> 'draft' AND (OLD.configuration <> NEW.configuration OR NEW.status = 'draft'))
    EXECUTE FUNCTION people.keep_mapper();
