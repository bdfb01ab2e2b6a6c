-- What databases that are full hold: 60,000 rows a table. tests/support/full.py runs it as the superuser, with triggers and foreign
-- keys off: what a row refers to may be missing.

-- fill: functions
CREATE SCHEMA fill;
GRANT USAGE ON SCHEMA fill TO PUBLIC;
CREATE FUNCTION fill.key(of text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT (left(md5(of), 16) || lpad(to_hex(n), 16, '0'))::uuid $$;
CREATE FUNCTION fill.number(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN n <= 200 THEN 1 WHEN n % 5 < 4 THEN 2 ELSE 3 + n / 5 % 500 END $$;
CREATE FUNCTION fill.tenant(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT fill.key('tenants', fill.number(n)) $$;
INSERT INTO identity.tenants (id, name, slug) SELECT fill.key('tenants', k), 'T', 't' || k FROM generate_series(1, 502) k;

-- fill: documents
-- Two documents have 300 chunks each, the others one; some have failed.
INSERT INTO assistants.personas (id, tenant_id, name, system_prompt)
SELECT fill.key('personas', n), fill.tenant(n), 'p' || n, 'p' FROM generate_series(1, 60000) n;
INSERT INTO knowledge.collections (id, tenant_id, name, slug)
SELECT fill.key('collections', k), fill.key('tenants', k), 'c', 'c' FROM generate_series(1, 502) k;
INSERT INTO knowledge.documents (id, tenant_id, collection_id, external_id, name, source, file_path, file_size, status,
    current_version, next_version, chunk_count, content_hash, metadata, uploaded_at)
SELECT fill.key('documents', n), fill.tenant(n), fill.key('collections', fill.number(n)), '/d/' || n, n || '.pdf', 'upload',
    'sha256/' || n, n, CASE WHEN n % 500 = 100 THEN 'failed' ELSE 'completed' END, 1, 1, 1, sha256(n::text::bytea),
    jsonb_build_object('place', n), now() - (60000 - n) * interval '1 s'
FROM generate_series(1, 60000) n;
INSERT INTO knowledge.document_texts (document_id, version, tenant_id, file_path, text, blocks)
SELECT fill.key('documents', n), 1, fill.tenant(n), 'text/' || n, repeat('word ', 60), '[]' FROM generate_series(1, 60000) n;
INSERT INTO knowledge.chunks (id, tenant_id, document_id, collection_id, version, chunk_index, text, text_hash, token_count,
    start_offset, end_offset)
SELECT fill.key('chunks', n), fill.tenant(n), fill.key('documents', n), fill.key('collections', fill.number(n)), 1, 0,
    'word' || n, sha256(n::text::bytea), 1, 0, 5
FROM generate_series(1, 60000) n
UNION ALL
SELECT fill.key('chunks', 60000 + n * 10 + i), fill.tenant(n), fill.key('documents', n),
    fill.key('collections', fill.number(n)), 1, i, 'word' || i, sha256(i::text::bytea), 1, i, i + 5
FROM unnest(ARRAY[100, 30100]) n, generate_series(1, 299) i;

-- fill: files
-- What names files beside documents, and what let go of them.
INSERT INTO mail.attachments (id, tenant_id, name, file_path, file_size)
SELECT fill.key('attachments', n), fill.tenant(n), 'a', 'mail/' || n, n FROM generate_series(1, 60000) n;
INSERT INTO ops.released_files (tenant_id, key) SELECT fill.tenant(n), 'gone/' || n FROM generate_series(1, 60000) n;

-- fill: terms
-- What searches by words go by, with changes that are not counted yet.
INSERT INTO knowledge.chunk_terms (chunk_id, tenant_id, language, term_count, keys, weights)
SELECT c.id, c.tenant_id, 'english', 1, ARRAY[k.key], ('{' || k.key || ':1}/536870912')::sparsevec
FROM knowledge.chunks c, LATERAL (SELECT knowledge.term_key(c.tenant_id, c.text) AS key) k;
INSERT INTO knowledge.term_statistics (tenant_id, key, chunk_count)
SELECT tenant_id, u.key, count(*) FROM knowledge.chunk_terms, unnest(keys) AS u (key) GROUP BY 1, 2;
INSERT INTO knowledge.term_totals (tenant_id, language, chunk_count, term_count)
SELECT tenant_id, 'english', count(*), count(*) FROM knowledge.chunk_terms GROUP BY 1;
INSERT INTO knowledge.term_changes (tenant_id, language, chunk_count, term_count, keys, counts)
SELECT fill.tenant(n), 'english', 0, 0, '{}', '{}' FROM generate_series(1, 60000) n;

-- fill: vectors
-- A space that is searched, without its index, and one that has nothing yet.
SET ROLE greenroom_owner;
ALTER TABLE knowledge.spaces ALTER id SET DEFAULT fill.key('spaces', 1);
SELECT knowledge.create_space('chunks', 'm', 'r', 3, 512);
ALTER TABLE knowledge.spaces ALTER id SET DEFAULT fill.key('spaces', 2);
SELECT knowledge.create_space('chunks', 'other', 'r', 3, 512);
ALTER TABLE knowledge.spaces ALTER id SET DEFAULT ops.uuid_v7();
RESET ROLE;
DO $$
DECLARE
    space CONSTANT uuid := fill.key('spaces', 1);
    leaf text := 'knowledge.chunk_vectors_' || replace(space::text, '-', '');
BEGIN
    EXECUTE format('DROP INDEX %s_embedding_idx', leaf);
    EXECUTE format('INSERT INTO %s (space_id, chunk_id, tenant_id, embedding) SELECT %L, id, tenant_id, '
        'ARRAY[1, random(), random()]::real[]::vector FROM knowledge.chunks', leaf, space);
END
$$;

-- fill: graph
-- The space's own index takes seconds for so many vectors: one of a thinner graph is as good a guard.
DO $$
BEGIN
    EXECUTE format('CREATE INDEX ON knowledge.chunk_vectors_%s USING hnsw ((embedding::vector(3)) vector_cosine_ops) '
        'WITH (m = 4, ef_construction = 16)', replace(fill.key('spaces', 1)::text, '-', ''));
END
$$;

-- fill: memories
-- The chunks of a tenant are one persona's, of a few hundred tenants each one's own; a few are due. A memory of each document, of two sources.
UPDATE knowledge.chunks SET curated_at = CASE WHEN ('x' || right(id::text, 8))::bit(32)::bigint % 2000 <> 100 THEN now() END,
    persona_id = CASE tenant_id WHEN fill.key('tenants', 1) THEN fill.key('personas', 100) WHEN fill.key('tenants', 2) THEN
        fill.key('personas', 30100) ELSE fill.key('personas', ('x' || right(id::text, 8))::bit(32)::bigint) END;
INSERT INTO knowledge.memories (id, tenant_id, persona_id, chunk_id, sources_hash, method, prompt_version, source_count, source_token_count,
    token_count)
SELECT fill.key('memories', n), fill.tenant(n), CASE fill.number(n) WHEN 1 THEN fill.key('personas', 100)
    WHEN 2 THEN fill.key('personas', 30100) ELSE fill.key('personas', n) END, fill.key('chunks', n), sha256(n::text::bytea), 'merged', '', 2, 2, 1
FROM generate_series(1, 60000) n;
INSERT INTO knowledge.memory_sources (memory_id, place, tenant_id, chunk_id, document_id, chunk_index, text_hash, token_count)
SELECT fill.key('memories', n), i, fill.tenant(n), fill.key('chunks', n + i), fill.key('documents', n + i), 0, sha256('t'), 1
FROM generate_series(1, 60000) n, generate_series(0, 1) i WHERE n NOT IN (101, 30101);
CLUSTER knowledge.chunks USING chunks_pkey; -- as dense as before

-- fill: asked
-- The log of searches, products, and tools.
INSERT INTO knowledge.rag_queries (id, tenant_id, collection_id, query_text, strategy, response_ms)
SELECT fill.key('rag_queries', n), fill.tenant(n), fill.key('collections', fill.number(n)), 'q', 'lexical', 1
FROM generate_series(1, 60000) n;
INSERT INTO knowledge.products (id, tenant_id, user_id, name, description, metadata)
SELECT fill.key('products', n), fill.tenant(n), fill.key('users', n), 'word' || n, 'word', jsonb_build_object('place', n)
FROM generate_series(1, 60000) n;
INSERT INTO tools.tools (id, tenant_id, name, description, category, schema)
SELECT fill.key('tools', n), fill.tenant(n), 't' || n, 'word' || n, 'c' || n, '{}' FROM generate_series(1, 60000) n;

-- fill: tasks
-- A live task of each document, and one that ended; some have failed. They end from now on: a month that is over has no partition.
INSERT INTO queue.tasks_live (id, task_type, payload, payload_version, tenant_id, queue, priority, max_attempts, owner_kind, owner_id)
SELECT fill.key('tasks', n), 'chunks.embed', jsonb_build_object('document_id', fill.key('documents', n), 'version', 1,
    'first', 0, 'last', 0), 1, fill.tenant(n), 'documents', 0, 5, 'document', fill.key('documents', n)
FROM generate_series(1, 60000) n;
INSERT INTO queue.tasks_history (id, task_type, payload, payload_version, tenant_id, status, completed_at, started_at, failed_at,
    last_error, queue, priority, max_attempts, owner_kind, owner_id)
SELECT fill.key('ended', n), 'document.ingest', '{}', 1, fill.tenant(n), s, at, now(), CASE s WHEN 'failed' THEN at END,
    CASE s WHEN 'failed' THEN 'x' END, 'documents', 0, 5, 'document', fill.key('documents', n)
FROM generate_series(1, 60000) n, LATERAL (
    SELECT CASE WHEN n % 500 = 100 THEN 'failed' ELSE 'done' END AS s, now() + n * interval '1 s' AS at) AS ended;

-- fill: noted
-- What relays note and look at; some tasks are held.
UPDATE queue.tasks_live SET hold_reason = 'tenant is suspended' WHERE id IN (SELECT fill.key('tasks', n * 600) FROM generate_series(1, 100) n);
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, ended_at)
SELECT fill.key('tasks', n), fill.tenant(n), 1, 1, 'retry', 'x', now() + n * interval '1 s' FROM generate_series(1, 60000) n;
INSERT INTO queue.statistics (minute, queue, task_type, done, failed, cancelled, runs, run_seconds, run_seconds_max, wait_seconds,
    wait_seconds_max, retried, snoozed, lost, handed_back)
SELECT date_trunc('minute', now(), 'UTC') - m * interval '1 min', 'documents', 't' || t, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0
FROM generate_series(1, 10000) m, generate_series(1, 6) t;
INSERT INTO queue.gauges (minute, queue, waiting, running, oldest_seconds)
SELECT date_trunc('minute', now(), 'UTC') - m * interval '1 min', 'q' || q, 1, 1, 1
FROM generate_series(1, 10000) m, generate_series(1, 6) q;
INSERT INTO queue.alerts (id, kind, key, state, facts, resolved_at, notified_state, notified_at, next_try_at)
SELECT fill.key('alerts', n), 'stalled_queue', 'k' || n, s, '{}', CASE s WHEN 'resolved' THEN now() END, s, now(),
    CASE WHEN n % 1000 = 0 THEN now() END
FROM generate_series(1, 60000) n, LATERAL (SELECT CASE WHEN n % 600 = 0 THEN 'raised' ELSE 'resolved' END AS s) AS state;
INSERT INTO queue.limits (kind, name, concurrency, rate, rate_seconds, burst)
SELECT 'tenant', fill.key('tenants', k)::text, 5, 5, 1, 5 FROM generate_series(1, 502) k;
INSERT INTO queue.limit_tokens (kind, name, tokens, refilled_at) SELECT 'key', n::text, 5, now() FROM generate_series(1, 60000) n;
INSERT INTO queue.batches (id, tenant_id, name, closed_at)
SELECT fill.key('batches', n), fill.tenant(n), 'b', CASE n % 2 WHEN 1 THEN now() END FROM generate_series(1, 60000) n;
INSERT INTO queue.settlements (batch_id, added) SELECT fill.key('batches', n), 1 FROM generate_series(1, 60000) n;
INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, payload_version, payload_schema)
VALUES ('test.noop', 'default', 'tenant', 0, 5, 100, '1 min', 1, '{}');

-- fill: records
-- Secrets and provider keys, a few under an older key; events and changes.
INSERT INTO vault.secrets (id, tenant_id, persona_id, secret_type, key_name, encrypted_value, key_id)
SELECT fill.key('secrets', n), fill.tenant(n), CASE WHEN n % 2 = 1 THEN fill.key('personas', n) END, 'other', 'k' || n,
    repeat('x', 60), CASE WHEN n % 500 = 100 THEN 'old' ELSE 'new' END
FROM generate_series(1, 60000) n;
INSERT INTO vault.provider_keys (id, tenant_id, user_id, service, encrypted_key, key_id)
SELECT fill.key('provider_keys', n), fill.tenant(n), fill.key('users', n), 'openai', repeat('x', 60),
    CASE WHEN n % 500 = 100 THEN 'old' ELSE 'new' END
FROM generate_series(1, 60000) n;
INSERT INTO audit.audit_events (tenant_id, event_type, event_category, description)
SELECT fill.tenant(n), 'e', 'action', 'd' FROM generate_series(1, 60000) n;
INSERT INTO audit.audit_events (event_type, event_category, description) VALUES ('files.checked', 'system', 'd');
INSERT INTO audit.audit_log (tenant_id, table_schema, table_name, record_id, operation)
SELECT fill.tenant(n), 'assistants', 'personas', fill.key('personas', n)::text, 'INSERT' FROM generate_series(1, 60000) n;

-- fill: talks
-- Users with what they talked and what agents did for them, in sixty days; a hundred rows are ten years old, for retention.
SET ROLE greenroom_owner;
SELECT ops.create_month(parent::regclass, now() - make_interval(months => ago))
FROM unnest(ARRAY['assistants.messages', 'governance.governance_events', 'governance.validation_results']) AS parent,
    unnest(ARRAY[1, 2, 120]) AS ago;
RESET ROLE;
INSERT INTO identity.users (id, tenant_id, email) SELECT fill.key('users', n), fill.tenant(n), n || '@example.com'
FROM generate_series(1, 60000) n;
INSERT INTO identity.sessions (tenant_id, user_id, token_hash, expires_at)
SELECT fill.tenant(n), fill.key('users', n), n::text, now() + CASE WHEN n % 600 = 0 THEN interval '-10 y' ELSE interval '1 d' END
FROM generate_series(1, 60000) n;
INSERT INTO identity.api_keys (id, tenant_id, user_id, name, key_hash, key_prefix)
SELECT fill.key('api_keys', n), fill.tenant(n), fill.key('users', n), 'k', lpad(n::text, 32, '0'), 'gr_k'
FROM generate_series(1, 60000) n;
INSERT INTO identity.user_sessions (id, tenant_id, user_id, status, started_at, ended_at)
SELECT fill.key('user_sessions', n), fill.tenant(n), fill.key('users', n), 'ended', at, at
FROM generate_series(1, 60000) n, LATERAL (SELECT now() - CASE WHEN n % 600 = 0 THEN interval '10 y' ELSE '1 d' END AS at) ended;
INSERT INTO assistants.voice_personas (id, tenant_id, user_id, name, youtube_url)
SELECT fill.key('voices', n), fill.tenant(n), fill.key('users', n), 'v', 'x'
FROM generate_series(1, 60000) n;
INSERT INTO assistants.conversations (id, tenant_id, persona_id, client_id, channel, started_at)
SELECT fill.key('conversations', n), fill.tenant(n), fill.key('voices', n), fill.key('clients', n), 'email', now()
FROM generate_series(1, 60000) n;
INSERT INTO assistants.messages (tenant_id, conversation_id, role, sender, content, processing_time_ms, token_count, created_at)
SELECT fill.tenant(n), fill.key('conversations', n), 'persona', 'persona', 'x', 1, 1, now() - make_interval(days => n % 60)
FROM generate_series(1, 60000) n;
INSERT INTO governance.agent_sessions (id, tenant_id, user_id, agent_type, status, started_at, completed_at, created_at)
SELECT fill.key('agents', n), fill.tenant(n), fill.key('users', n), 'a', CASE WHEN n % 100 = 0 THEN 'approved' ELSE 'completed' END, at,
    CASE WHEN n % 100 > 0 THEN at END, at
FROM generate_series(1, 60000) n,
    LATERAL (SELECT now() - CASE WHEN n % 600 = 1 THEN interval '10 y' ELSE make_interval(days => n % 60) END AS at) AS started;
INSERT INTO governance.governance_events (id, tenant_id, agent_session_id, user_id, agent_type, event_type, framework_type, approved,
    created_at)
SELECT fill.key('events', n), fill.tenant(n), fill.key('agents', n), fill.key('users', n), 'a', 'pre_agent_spawn', 'consensus', true,
    now() - CASE WHEN n % 600 = 1 THEN interval '10 y' ELSE make_interval(days => n % 60) END
FROM generate_series(1, 60000) n;

-- fill: owned
-- What users have beside their talks, generated personas, and what tenants use. Three tenants are deleted; one of them has nothing left.
SET ROLE greenroom_owner;
SELECT ops.create_month('billing.usage_metrics', now() - make_interval(months => ago)) FROM unnest(ARRAY[1, 2]) AS ago;
RESET ROLE;
INSERT INTO identity.tenants (id, name, slug) VALUES (fill.key('tenants', 503), 'T', 't503');
UPDATE identity.tenants SET status = 'deleted', deleted_at = now() WHERE slug IN ('t1', 't2', 't503');
INSERT INTO identity.session_activities (tenant_id, user_session_id, activity_type)
SELECT fill.tenant(n), fill.key('user_sessions', n), 'a' FROM generate_series(1, 60000) n;
INSERT INTO assistants.clients (id, tenant_id, user_id, name)
SELECT fill.key('clients', n), fill.tenant(n), fill.key('users', n), 'c' FROM generate_series(1, 60000) n;
INSERT INTO people.mapper_configs (id, tenant_id, config_id, version, configuration)
SELECT fill.key('mappers', n), fill.tenant(n), 'c' || n, 1, '{}' FROM generate_series(1, 60000) n;
INSERT INTO people.personas (id, tenant_id, person_id, mapper_id, core, expires_at)
SELECT fill.key('generated', n), fill.tenant(n), fill.key('persons', n), fill.key('mappers', n), '{}',
    now() + CASE WHEN n % 600 = 0 THEN interval '-1 d' ELSE interval '1 d' END
FROM generate_series(1, 60000) n;
UPDATE identity.api_keys SET expires_at = now() - interval '1 d' WHERE id = ANY (ARRAY(SELECT fill.key('api_keys', 600 * n) FROM generate_series(1, 100) n));
INSERT INTO billing.tenant_quotas (id, tenant_id, metric_type, limit_value, period)
SELECT fill.key('quotas', 3 * k + p), fill.key('tenants', k), 'm1', 5, (ARRAY['day', 'month', 'total'])[p]
FROM generate_series(1, 502) k, generate_series(1, 3) p;
INSERT INTO billing.usage_metrics (tenant_id, metric_type, metric_value, period_start, period_end)
SELECT fill.tenant(n), 'm' || n % 10, 1, at, at + interval '1 h'
FROM generate_series(1, 60000) n, LATERAL (SELECT now() - make_interval(days => n % 60) AS at) AS used;

-- fill: schedules
-- A thousand schedules, of which a hundred have fired often; each time of theirs has its task.
INSERT INTO queue.schedules (id, name, tenant_id, task_type, cron, next_fire_at)
SELECT fill.key('schedules', n), 's' || n, fill.tenant(n), 'test.noop', '* * * * *', now() + n * interval '1 min'
FROM generate_series(1, 1000) n;
INSERT INTO queue.fires (schedule_id, fire_at, fired_at, outcome, task_id)
SELECT fill.key('schedules', 1 + n % 100), now() - n * interval '1 min', now(), 'enqueued', fill.key('tasks', n)
FROM generate_series(1, 60000) n;
UPDATE queue.tasks_live SET owner_kind = 'schedule', owner_id = fill.key('schedules', 1 + ('x' || right(id::text, 12))::bit(48)::bigint % 1000);

-- fill: health
-- Personas of whom one in a hundred has a hundred runs, costs, measures and hours, and two have thousands, of long ago.
INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, payload_version, payload_schema)
VALUES ('persona.measure', 'default', 'tenant', 0, 3, 100, '1 min', 1, '{}');
INSERT INTO assistants.personas (id, tenant_id, name, system_prompt)
SELECT fill.key('personas', n), fill.tenant(n), 'p' || n, 'p' FROM generate_series(1, 60000) n;
INSERT INTO ops.persona_health_states (tenant_id, persona_id, counted_since)
SELECT fill.tenant(n), fill.key('personas', n), now() - interval '1 h' FROM generate_series(1, 60000) n;
INSERT INTO ops.health_thresholds (tenant_id, persona_id, metric, raise_at, clear_below)
SELECT fill.tenant(n), fill.key('personas', n), 'cpu_percent', 80, 70 FROM generate_series(1, 60000) n;
INSERT INTO assistants.agents (id, tenant_id, name, persona_id)
SELECT fill.key('aides', n), fill.tenant(n), 'a', fill.key('personas', n)
FROM generate_series(1, 600) k, LATERAL (SELECT k * 100 + (k - 1) % 5 AS n) AS each;
CREATE TABLE fill.deeds AS SELECT row_number() OVER () AS number, n, i FROM (
    SELECT k * 100 + (k - 1) % 5 AS n, i FROM generate_series(1, 600) k, generate_series(1, 100) i
    UNION ALL SELECT n, i FROM unnest(ARRAY[100, 30100]) n, generate_series(101, 3000) i) AS each;
INSERT INTO assistants.runs (id, tenant_id, agent_id, persona_id, user_id, trace_id, status, input, completed_at)
SELECT fill.key('runs', number), fill.tenant(n), fill.key('aides', n), fill.key('personas', n), fill.key('users', n), 'run-' || fill.key('runs', number),
    CASE i WHEN 1 THEN 'running' ELSE 'completed' END, 'x', CASE WHEN i > 1 THEN now() - i * interval '1 h' END
FROM fill.deeds;
INSERT INTO assistants.run_steps (tenant_id, run_id, step_number, step_type)
SELECT fill.tenant(n), fill.key('runs', number), 1, 'llm_call' FROM fill.deeds;
INSERT INTO billing.usage_metrics (tenant_id, agent_id, metric_type, metric_value, cost, period_start, period_end, recorded_at)
SELECT fill.tenant(n), fill.key('aides', n), 'm', 1, 1, now(), now() + interval '1 h', now() - i * interval '1 h' FROM fill.deeds;
SET ROLE greenroom_owner;
SELECT ops.create_month('ops.persona_health_metrics', now() - make_interval(months => ago)) FROM unnest(ARRAY[1, 2]) AS ago;
RESET ROLE;
INSERT INTO ops.persona_health_metrics (tenant_id, persona_id, cpu_percent, memory_mb, measured_at)
SELECT fill.tenant(n), fill.key('personas', n), 1, 1, now() - i * interval '15 min' FROM fill.deeds;
INSERT INTO ops.persona_health_hourly (tenant_id, persona_id, hour, sample_count, active_runs_avg, active_runs_max, active_runs_p95)
SELECT fill.tenant(n), fill.key('personas', n), date_trunc('hour', now() - i * interval '1 h', 'UTC'), 4, 0, 0, 0 FROM fill.deeds WHERE i > 3;
