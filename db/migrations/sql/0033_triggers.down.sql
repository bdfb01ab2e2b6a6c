-- As before, to the letter.

DROP TRIGGER keep ON people.mapper_configs;
DROP FUNCTION people.keep_mapper;
CREATE OR REPLACE FUNCTION people.number_mapper() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('mapper ' || NEW.tenant_id::text || ' ' || NEW.config_id, 0));
    IF NEW.version = 0 THEN
        NEW.version := (SELECT COALESCE(max(m.version), 0) + 1 FROM people.mapper_configs m
            WHERE m.tenant_id = NEW.tenant_id AND m.config_id = NEW.config_id);
    END IF;
    RETURN NEW;
END
$$;

DROP FUNCTION ops.create_months_of;
ALTER FUNCTION queue.create_month RESET datestyle;
ALTER FUNCTION queue.create_month RESET timezone;
ALTER FUNCTION ops.create_month RESET datestyle;
ALTER FUNCTION ops.create_month RESET timezone;

DO $$
DECLARE
    searches text;
BEGIN
    FOREACH searches IN ARRAY ARRAY['knowledge.find_products', 'tools.find_tools'] LOOP
        CONTINUE WHEN to_regproc(searches) IS NULL;
        EXECUTE replace(pg_get_functiondef(to_regproc(searches)), 'knowledge.asked(query_text)', 'query_text');
    END LOOP;
    EXECUTE replace(pg_get_functiondef('knowledge.query_terms'::regproc), 'knowledge.asked(query_text, 10000)', 'query_text');
END
$$;
DROP FUNCTION knowledge.asked;

DO $$
BEGIN
    EXECUTE 'CREATE OR REPLACE VIEW billing.token_usage_by_user WITH (security_invoker = true) AS '
        || regexp_replace(pg_get_viewdef('billing.token_usage_by_user'::regclass),
            $q$CASE\s+WHEN \(\(\(\(m\.tokens_used[^\n]*\s+ELSE \(m\.token_count\)::numeric\s+END$q$,
            $q$((m.tokens_used ->> 'total'::text))::numeric$q$);
END
$$;

DO $$
DECLARE
    checked record;
BEGIN
    FOR checked IN
        SELECT k.conrelid::regclass AS relation, string_agg(format('DROP CONSTRAINT %I', k.conname), ', ') AS checks
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.contype = 'c' AND NOT c.relispartition AND k.conname LIKE c.relname || '\_%\_range\_check'
            AND c.relnamespace::regnamespace::text IN ('identity', 'billing', 'assistants', 'tools', 'knowledge', 'people', 'governance',
                'mail', 'vault', 'ops', 'audit')
        GROUP BY k.conrelid
    LOOP
        EXECUTE format('ALTER TABLE %s %s', checked.relation, checked.checks);
    END LOOP;
END
$$;

ALTER TABLE assistants.persona_profiles
    DROP CONSTRAINT persona_profiles_auto_extracted_check,
    ADD CONSTRAINT persona_profiles_auto_extracted_check CHECK (jsonb_typeof(auto_extracted) = 'object'),
    DROP CONSTRAINT persona_profiles_manual_overrides_check,
    ADD CONSTRAINT persona_profiles_manual_overrides_check CHECK (jsonb_typeof(manual_overrides) = 'object');
ALTER TABLE assistants.voice_personas
    DROP CONSTRAINT voice_personas_youtube_url_check,
    ADD CONSTRAINT voice_personas_youtube_url_check CHECK (length(youtube_url) BETWEEN 1 AND 2000);
ALTER TABLE billing.billing_records
    DROP CONSTRAINT billing_records_amount_check,
    ADD CONSTRAINT billing_records_amount_check CHECK (amount >= 0);
ALTER TABLE billing.subscription_plans
    DROP CONSTRAINT subscription_plans_price_check,
    ADD CONSTRAINT subscription_plans_price_check CHECK (price >= 0);
ALTER TABLE billing.usage_metrics
    DROP CONSTRAINT usage_metrics_cost_check,
    ADD CONSTRAINT usage_metrics_cost_check CHECK (cost >= 0);
ALTER TABLE governance.agent_interactions
    DROP CONSTRAINT agent_interactions_token_cost_check,
    ADD CONSTRAINT agent_interactions_token_cost_check CHECK (token_cost >= 0);
ALTER TABLE governance.agent_sessions
    DROP CONSTRAINT agent_sessions_estimated_cost_check,
    ADD CONSTRAINT agent_sessions_estimated_cost_check CHECK (estimated_cost >= 0),
    DROP CONSTRAINT agent_sessions_max_cost_limit_check,
    ADD CONSTRAINT agent_sessions_max_cost_limit_check CHECK (max_cost_limit >= 0),
    DROP CONSTRAINT agent_sessions_token_cost_check,
    ADD CONSTRAINT agent_sessions_token_cost_check CHECK (token_cost >= 0);
ALTER TABLE knowledge.products
    DROP CONSTRAINT products_description_check,
    DROP CONSTRAINT products_price_check,
    ADD CONSTRAINT products_price_check CHECK (price >= 0);
ALTER TABLE knowledge.rag_queries
    DROP CONSTRAINT rag_queries_result_scores_check,
    DROP CONSTRAINT rag_queries_top_score_check,
    ADD CONSTRAINT rag_queries_top_score_check CHECK (CASE strategy WHEN 'lexical' THEN top_score >= 0 ELSE top_score BETWEEN -1 AND 1 END);
ALTER TABLE knowledge.transcript_segments
    DROP CONSTRAINT transcript_segments_timestamp_end_check,
    DROP CONSTRAINT transcript_segments_timestamp_start_check,
    ADD CONSTRAINT transcript_segments_timestamp_start_check CHECK (timestamp_start >= 0),
    DROP CONSTRAINT transcript_segments_youtube_url_check,
    ADD CONSTRAINT transcript_segments_youtube_url_check CHECK (length(youtube_url) BETWEEN 1 AND 2000);
ALTER TABLE mail.attachments
    DROP CONSTRAINT attachments_file_path_check;
ALTER TABLE mail.emails
    DROP CONSTRAINT emails_folder_check,
    ADD CONSTRAINT emails_folder_check CHECK (length(folder) <= 1000),
    DROP CONSTRAINT emails_message_id_check,
    ADD CONSTRAINT emails_message_id_check CHECK (length(message_id) <= 998);
ALTER TABLE mail.folders
    DROP CONSTRAINT folders_name_check,
    ADD CONSTRAINT folders_name_check CHECK (length(name) BETWEEN 1 AND 1000);
ALTER TABLE ops.persona_health_hourly
    DROP CONSTRAINT persona_health_hourly_active_runs_avg_check,
    ADD CONSTRAINT persona_health_hourly_active_runs_avg_check CHECK (active_runs_avg >= 0 AND active_runs_avg <= active_runs_max),
    DROP CONSTRAINT persona_health_hourly_active_runs_p95_check,
    ADD CONSTRAINT persona_health_hourly_active_runs_p95_check CHECK (active_runs_p95 >= 0 AND active_runs_p95 <= active_runs_max),
    DROP CONSTRAINT persona_health_hourly_cpu_percent_avg_check,
    ADD CONSTRAINT persona_health_hourly_cpu_percent_avg_check CHECK (cpu_percent_avg >= 0 AND cpu_percent_avg <= cpu_percent_max),
    DROP CONSTRAINT persona_health_hourly_cpu_percent_p95_check,
    ADD CONSTRAINT persona_health_hourly_cpu_percent_p95_check CHECK (cpu_percent_p95 >= 0 AND cpu_percent_p95 <= cpu_percent_max),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_avg_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_avg_check CHECK (disk_usage_gb_avg >= 0 AND disk_usage_gb_avg <= disk_usage_gb_max),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_max_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_max_check CHECK (disk_usage_gb_max >= 0),
    DROP CONSTRAINT persona_health_hourly_disk_usage_gb_p95_check,
    ADD CONSTRAINT persona_health_hourly_disk_usage_gb_p95_check CHECK (disk_usage_gb_p95 >= 0 AND disk_usage_gb_p95 <= disk_usage_gb_max),
    DROP CONSTRAINT persona_health_hourly_estimated_cost_sum_check,
    ADD CONSTRAINT persona_health_hourly_estimated_cost_sum_check CHECK (estimated_cost_sum >= 0),
    DROP CONSTRAINT persona_health_hourly_memory_mb_avg_check,
    ADD CONSTRAINT persona_health_hourly_memory_mb_avg_check CHECK (memory_mb_avg >= 0 AND memory_mb_avg <= memory_mb_max),
    DROP CONSTRAINT persona_health_hourly_memory_mb_p95_check,
    ADD CONSTRAINT persona_health_hourly_memory_mb_p95_check CHECK (memory_mb_p95 >= 0 AND memory_mb_p95 <= memory_mb_max),
    DROP CONSTRAINT persona_health_hourly_memory_percent_avg_check,
    ADD CONSTRAINT persona_health_hourly_memory_percent_avg_check CHECK (memory_percent_avg >= 0 AND memory_percent_avg <= memory_percent_max),
    DROP CONSTRAINT persona_health_hourly_memory_percent_p95_check,
    ADD CONSTRAINT persona_health_hourly_memory_percent_p95_check CHECK (memory_percent_p95 >= 0 AND memory_percent_p95 <= memory_percent_max);
ALTER TABLE ops.persona_health_metrics
    DROP CONSTRAINT persona_health_metrics_disk_usage_gb_check,
    ADD CONSTRAINT persona_health_metrics_disk_usage_gb_check CHECK (disk_usage_gb >= 0),
    DROP CONSTRAINT persona_health_metrics_estimated_cost_check,
    ADD CONSTRAINT persona_health_metrics_estimated_cost_check CHECK (estimated_cost >= 0);
ALTER TABLE people.narratives
    DROP CONSTRAINT narratives_tags_check;
ALTER TABLE queue.gauges
    DROP CONSTRAINT gauges_oldest_seconds_check,
    ADD CONSTRAINT gauges_oldest_seconds_check CHECK (oldest_seconds >= 0);
ALTER TABLE queue.limit_tokens
    DROP CONSTRAINT limit_tokens_tokens_check;
ALTER TABLE queue.statistics
    DROP CONSTRAINT statistics_run_seconds_check,
    ADD CONSTRAINT statistics_run_seconds_check CHECK (run_seconds >= 0),
    DROP CONSTRAINT statistics_run_seconds_max_check,
    ADD CONSTRAINT statistics_run_seconds_max_check CHECK (run_seconds_max >= 0),
    DROP CONSTRAINT statistics_wait_seconds_check,
    ADD CONSTRAINT statistics_wait_seconds_check CHECK (wait_seconds >= 0),
    DROP CONSTRAINT statistics_wait_seconds_max_check,
    ADD CONSTRAINT statistics_wait_seconds_max_check CHECK (wait_seconds_max >= 0);
ALTER TABLE tools.tools
    DROP CONSTRAINT tools_description_check;
DROP FUNCTION ops.longest;

CREATE OR REPLACE FUNCTION identity.note_activity() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE identity.users u SET last_active_at = done.at
    FROM (SELECT s.user_id, s.tenant_id, max(a.created_at) AS at FROM added a JOIN identity.user_sessions s ON s.id = a.user_session_id
          GROUP BY s.user_id, s.tenant_id) AS done
    WHERE u.id = done.user_id AND u.tenant_id = done.tenant_id AND u.last_active_at < done.at - interval '1 minute';
    RETURN NULL;
END
$$;

DROP TRIGGER note_key_use ON identity.api_keys;
DROP TRIGGER note_key_made ON identity.api_keys;
CREATE OR REPLACE FUNCTION identity.note_key_use() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE identity.users SET last_used_at = NEW.last_used_at
    WHERE id = NEW.user_id AND tenant_id = NEW.tenant_id AND (last_used_at IS NULL OR last_used_at < NEW.last_used_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_key_use AFTER INSERT OR UPDATE OF last_used_at, user_id ON identity.api_keys FOR EACH ROW
    WHEN (NEW.last_used_at IS NOT NULL AND NEW.user_id IS NOT NULL) EXECUTE FUNCTION identity.note_key_use();

DROP TRIGGER forget_contact ON assistants.conversations;
CREATE OR REPLACE FUNCTION assistants.forget_contact() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM assistants.clients c
    WHERE c.id = OLD.client_id AND c.tenant_id = OLD.tenant_id AND c.last_contact = OLD.started_at FOR NO KEY UPDATE;
    IF FOUND THEN
        -- A statement of its own: it sees what was written while the lock was waited for.
        UPDATE assistants.clients c
        SET last_contact = (SELECT max(o.started_at) FROM assistants.conversations o WHERE o.client_id = c.id)
        WHERE c.id = OLD.client_id AND c.tenant_id = OLD.tenant_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER forget_contact AFTER UPDATE OF client_id, started_at ON assistants.conversations FOR EACH ROW
    WHEN (OLD.client_id IS NOT NULL AND (OLD.client_id IS DISTINCT FROM NEW.client_id OR OLD.started_at <> NEW.started_at))
    EXECUTE FUNCTION assistants.forget_contact();
DROP TRIGGER note_contact ON assistants.conversations;
CREATE OR REPLACE FUNCTION assistants.note_contact() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.clients SET last_contact = NEW.started_at
    WHERE id = NEW.client_id AND tenant_id = NEW.tenant_id AND (last_contact IS NULL OR last_contact < NEW.started_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_contact AFTER INSERT OR UPDATE OF client_id, started_at ON assistants.conversations
    FOR EACH ROW WHEN (NEW.client_id IS NOT NULL) EXECUTE FUNCTION assistants.note_contact();

CREATE OR REPLACE FUNCTION assistants.count_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE c.id WHEN NEW.conversation_id THEN 1 ELSE -1 END, 0)
    WHERE c.id IN (OLD.conversation_id, NEW.conversation_id) AND c.tenant_id = NEW.tenant_id;
    RETURN NEW;
END
$$;
DROP TRIGGER count_moved ON assistants.messages;
CREATE TRIGGER count_moved BEFORE UPDATE OF conversation_id ON assistants.messages FOR EACH ROW
    WHEN (OLD.conversation_id <> NEW.conversation_id) EXECUTE FUNCTION assistants.count_moved();
CREATE OR REPLACE FUNCTION assistants.count_messages() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE TG_OP WHEN 'INSERT' THEN changed.messages ELSE -changed.messages END, 0)
    FROM (SELECT conversation_id, tenant_id, count(*)::integer AS messages FROM changes GROUP BY 1, 2) AS changed
    WHERE c.id = changed.conversation_id AND c.tenant_id = changed.tenant_id;
    RETURN NULL;
END
$$;
