-- Personas' health: who is to be measured and where, one persona's measure, hours rolled up, and what an operator is shown.

-- name: to_measure
-- The next personas in the order of their keys that live, with the host that runs each. As the system role, for all tenants.
SELECT p.id, p.tenant_id, p.host FROM assistants.personas p JOIN identity.tenants t ON t.id = p.tenant_id
WHERE p.id > %(after)s AND p.is_active AND t.status = 'active' ORDER BY p.id LIMIT %(most)s;

-- name: enqueue
-- A task for each persona, unless one of that key waits or runs; one that waits on the queue of another host is brought to this one.
SELECT queue.enqueue(%(task_type)s, jsonb_build_object('persona_id', d.persona_id),
    jsonb_build_object('tenant_id', d.tenant_id, 'queue', d.queue, 'unique_key', key, 'unique_mode', CASE WHEN EXISTS (
        SELECT FROM queue.tasks_live t WHERE t.unique_key = key AND t.tenant_id = d.tenant_id AND t.queue <> d.queue AND t.status = 'pending'
    ) THEN 'replace' ELSE 'keep' END))
FROM unnest(%(persona_ids)s::uuid[], %(tenants)s::uuid[], %(queues)s::text[]) AS d (persona_id, tenant_id, queue),
    concat(%(task_type)s::text, ':', d.persona_id) AS key;

-- name: place
-- Where a persona that lives runs, as far as anybody has said.
SELECT p.container_id, p.process_id, p.process_started_at FROM assistants.personas p WHERE p.id = %(persona_id)s AND p.is_active;

-- name: thresholds
-- A persona's own go before its tenant's.
SELECT DISTINCT ON (h.metric) h.metric, h.raise_at, h.clear_below FROM ops.health_thresholds h
WHERE h.persona_id = %(persona_id)s OR h.persona_id IS NULL AND h.tenant_id = identity.current_tenant_id()
ORDER BY h.metric, h.persona_id NULLS LAST;

-- name: begin
-- A persona that was never measured counts the hour before its first measure.
INSERT INTO ops.persona_health_states (tenant_id, persona_id, counted_since)
SELECT p.tenant_id, p.id, now() - interval '1 hour' FROM assistants.personas p WHERE p.id = %(persona_id)s
ON CONFLICT (persona_id) DO NOTHING;

-- name: lock
-- Measures of one persona come one after the other. What the next statement counts was committed before it, or is counted by the next.
SELECT s.source, s.cpu_used_ns, s.cpu_capacity_ns, s.crossed FROM ops.persona_health_states s WHERE s.persona_id = %(persona_id)s
FOR NO KEY UPDATE;

-- name: record
-- Write a measure and how far it came. Calls are steps of the persona's runs, cost is what its agents' use is recorded with. A row may
-- be committed long after the time that it bears: so all of an hour and more is counted each time, less what was counted before. Where
-- the clock has stepped back behind what was counted, it is counted from now on.
WITH moment AS MATERIALIZED (
    SELECT s.*, at.now, GREATEST(LEAST(s.counted_since, at.now), date_trunc('hour', at.now, 'UTC') - interval '1 hour') AS next_since
    FROM ops.persona_health_states s, (SELECT clock_timestamp() AS now) AS at WHERE s.persona_id = %(persona_id)s
), lately AS MATERIALIZED (
    -- apart, so that each goes by the index
    SELECT r.id, r.status FROM assistants.runs r WHERE r.persona_id = %(persona_id)s AND r.completed_at IS NULL
    UNION ALL
    SELECT r.id, r.status FROM assistants.runs r
    WHERE r.persona_id = %(persona_id)s AND r.completed_at > (SELECT counted_since FROM moment)
), calls AS (
    SELECT count(*) AS all_of, count(*) FILTER (WHERE s.created_at > m.next_since) AS next
    FROM moment m, lately r JOIN assistants.run_steps s ON s.run_id = r.id
    WHERE s.step_type = 'llm_call' AND s.created_at > m.counted_since
), costs AS (
    SELECT count(*) AS all_of, COALESCE(sum(u.cost), 0) AS cost, count(*) FILTER (WHERE u.recorded_at > m.next_since) AS next,
        COALESCE(sum(u.cost) FILTER (WHERE u.recorded_at > m.next_since), 0) AS next_cost
    FROM moment m, assistants.agents a JOIN billing.usage_metrics u ON u.agent_id = a.id
    WHERE a.persona_id = %(persona_id)s AND u.cost IS NOT NULL AND u.recorded_at > m.counted_since
), since AS (
    SELECT m.tenant_id, m.persona_id, m.now, m.next_since, c.next AS calls_next, e.next AS costs_next, e.next_cost,
        LEAST(GREATEST(c.all_of - m.calls_counted, 0), 2147483647)::integer AS calls,
        e.all_of > m.costs_counted AS has_cost, GREATEST(e.cost - m.cost_counted, 0) + m.cost_carried AS cost
    FROM moment m, calls c, costs e
), kept AS (
    UPDATE ops.persona_health_states s SET measured_at = d.now, counted_since = d.next_since, calls_counted = d.calls_next,
        costs_counted = d.costs_next, cost_counted = d.next_cost,
        cost_carried = CASE WHEN d.has_cost THEN d.cost - trunc(d.cost, 4) ELSE s.cost_carried END,
        source = %(source)s, cpu_used_ns = %(cpu_used_ns)s, cpu_capacity_ns = %(cpu_capacity_ns)s
    FROM since d WHERE s.persona_id = d.persona_id
)
INSERT INTO ops.persona_health_metrics (tenant_id, persona_id, measured_at, cpu_percent, memory_mb, memory_percent, disk_usage_gb,
    llm_calls_count, estimated_cost, active_runs_count)
SELECT d.tenant_id, d.persona_id, d.now, %(cpu_percent)s, %(memory_mb)s, %(memory_percent)s, %(disk_usage_gb)s, d.calls,
    CASE WHEN d.has_cost THEN LEAST(trunc(d.cost, 4), 999999.9999) END, (SELECT count(*) FROM lately r WHERE r.status = 'running')
FROM since d
RETURNING llm_calls_count, estimated_cost, active_runs_count;

-- name: cross
UPDATE ops.persona_health_states SET crossed = %(crossed)s WHERE persona_id = %(persona_id)s;

-- name: personas
-- The next personas in the order of their keys, living or not.
SELECT p.id FROM assistants.personas p WHERE p.id > %(after)s ORDER BY p.id LIMIT %(most)s;

-- name: hours_due
-- Hours that are over and hold more measures than were rolled up: from the time given on, else from a day before the last hour that was.
SELECT p.persona_id, counted.hour
FROM unnest(%(persona_ids)s::uuid[]) AS p (persona_id)
CROSS JOIN LATERAL (
    SELECT COALESCE(%(since)s::timestamptz, (
        SELECT h.hour - interval '1 day' FROM ops.persona_health_hourly h WHERE h.persona_id = p.persona_id ORDER BY h.hour DESC LIMIT 1
    ), '-infinity') AS since
) AS f
CROSS JOIN LATERAL (
    SELECT date_trunc('hour', m.measured_at, 'UTC') AS hour, count(*) AS measures FROM ops.persona_health_metrics m
    WHERE m.persona_id = p.persona_id AND m.measured_at >= f.since AND m.measured_at < date_trunc('hour', now(), 'UTC') GROUP BY 1
) AS counted
WHERE counted.measures > COALESCE((
    SELECT h.sample_count FROM ops.persona_health_hourly h WHERE h.persona_id = p.persona_id AND h.hour = counted.hour), 0)
ORDER BY p.persona_id, counted.hour LIMIT %(most)s;

-- name: roll_up
-- The given hours from all their measures. Percentiles lie between two measures where none is at 95 % (percentile_cont). One that
-- somebody else has rolled up from more measures stays.
INSERT INTO ops.persona_health_hourly AS known (tenant_id, persona_id, hour, sample_count,
    cpu_percent_avg, cpu_percent_max, cpu_percent_p95, memory_mb_avg, memory_mb_max, memory_mb_p95,
    memory_percent_avg, memory_percent_max, memory_percent_p95, disk_usage_gb_avg, disk_usage_gb_max, disk_usage_gb_p95,
    llm_calls_sum, estimated_cost_sum, active_runs_avg, active_runs_max, active_runs_p95)
SELECT m.tenant_id, d.persona_id, d.hour, count(*),
    avg(m.cpu_percent), max(m.cpu_percent), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.cpu_percent),
    avg(m.memory_mb), max(m.memory_mb), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.memory_mb),
    avg(m.memory_percent), max(m.memory_percent), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.memory_percent),
    avg(m.disk_usage_gb), max(m.disk_usage_gb), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.disk_usage_gb),
    sum(m.llm_calls_count), sum(m.estimated_cost),
    avg(m.active_runs_count), max(m.active_runs_count), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.active_runs_count)
FROM unnest(%(persona_ids)s::uuid[], %(hours)s::timestamptz[]) AS d (persona_id, hour)
JOIN ops.persona_health_metrics m
    ON m.persona_id = d.persona_id AND m.measured_at >= d.hour AND m.measured_at < d.hour + interval '1 hour'
GROUP BY m.tenant_id, d.persona_id, d.hour ORDER BY d.persona_id, d.hour
ON CONFLICT (persona_id, hour) DO UPDATE SET sample_count = EXCLUDED.sample_count,
    cpu_percent_avg = EXCLUDED.cpu_percent_avg, cpu_percent_max = EXCLUDED.cpu_percent_max, cpu_percent_p95 = EXCLUDED.cpu_percent_p95,
    memory_mb_avg = EXCLUDED.memory_mb_avg, memory_mb_max = EXCLUDED.memory_mb_max, memory_mb_p95 = EXCLUDED.memory_mb_p95,
    memory_percent_avg = EXCLUDED.memory_percent_avg, memory_percent_max = EXCLUDED.memory_percent_max,
    memory_percent_p95 = EXCLUDED.memory_percent_p95, disk_usage_gb_avg = EXCLUDED.disk_usage_gb_avg,
    disk_usage_gb_max = EXCLUDED.disk_usage_gb_max, disk_usage_gb_p95 = EXCLUDED.disk_usage_gb_p95,
    llm_calls_sum = EXCLUDED.llm_calls_sum, estimated_cost_sum = EXCLUDED.estimated_cost_sum,
    active_runs_avg = EXCLUDED.active_runs_avg, active_runs_max = EXCLUDED.active_runs_max, active_runs_p95 = EXCLUDED.active_runs_p95
WHERE known.sample_count <= EXCLUDED.sample_count;

-- name: shown
-- A tenant's personas, or the one of that id or name: first those with something over its threshold, then by name; with its last measure.
SELECT p.id, p.name, p.is_active, p.host, last.measured_at, last.cpu_percent, last.memory_mb, last.memory_percent, last.disk_usage_gb,
    last.llm_calls_count, last.estimated_cost, last.active_runs_count, p.crossed
FROM (
    SELECT p.id, p.name, p.is_active, p.host, COALESCE(s.crossed, '{}') AS crossed, s.measured_at AS last_at
    FROM assistants.personas p LEFT JOIN ops.persona_health_states s ON s.persona_id = p.id
    WHERE p.tenant_id = identity.current_tenant_id()
        AND (%(persona)s::text IS NULL OR p.name = %(persona)s OR p.external_id = %(persona)s OR p.id::text = %(persona)s)
    ORDER BY COALESCE(s.crossed, '{}') = '{}', p.name, p.id LIMIT %(most)s
) AS p
LEFT JOIN LATERAL (
    SELECT m.measured_at, m.cpu_percent, m.memory_mb, m.memory_percent, m.disk_usage_gb, m.llm_calls_count, m.estimated_cost,
        m.active_runs_count
    FROM ops.persona_health_metrics m WHERE m.persona_id = p.id AND m.measured_at = p.last_at LIMIT 1
) AS last ON true
ORDER BY p.crossed = '{}', p.name, p.id;

-- name: hours
-- What some personas' hours came to, from the time given on; of an hour that is not rolled up yet, what its measures say so far.
SELECT h.persona_id, h.hour, h.sample_count, h.cpu_percent_avg, h.cpu_percent_max, h.cpu_percent_p95,
    h.memory_mb_avg, h.memory_mb_max, h.memory_mb_p95, h.memory_percent_avg, h.memory_percent_max, h.memory_percent_p95,
    h.disk_usage_gb_avg, h.disk_usage_gb_max, h.disk_usage_gb_p95, h.llm_calls_sum, h.estimated_cost_sum,
    h.active_runs_avg, h.active_runs_max, h.active_runs_p95
FROM unnest(%(persona_ids)s::uuid[]) AS p (persona_id)
JOIN ops.persona_health_hourly h ON h.persona_id = p.persona_id AND h.hour >= %(since)s
UNION ALL
SELECT running.* FROM unnest(%(persona_ids)s::uuid[]) AS p (persona_id) CROSS JOIN LATERAL (
    SELECT m.persona_id, date_trunc('hour', m.measured_at, 'UTC') AS hour, count(*)::integer,
        round(avg(m.cpu_percent), 2), max(m.cpu_percent), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.cpu_percent)::numeric,
        round(avg(m.memory_mb), 2), max(m.memory_mb), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.memory_mb)::numeric,
        round(avg(m.memory_percent), 2), max(m.memory_percent),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY m.memory_percent)::numeric,
        round(avg(m.disk_usage_gb), 2), max(m.disk_usage_gb), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.disk_usage_gb)::numeric,
        sum(m.llm_calls_count), sum(m.estimated_cost),
        round(avg(m.active_runs_count), 2), max(m.active_runs_count),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY m.active_runs_count)::numeric
    FROM ops.persona_health_metrics m
    WHERE m.persona_id = p.persona_id AND m.measured_at >= GREATEST(%(since)s, date_trunc('hour', now(), 'UTC') - interval '1 hour')
    GROUP BY 1, 2
) AS running
-- one by one: joined, all hours of the tenant would be read
WHERE (SELECT h.id FROM ops.persona_health_hourly h WHERE h.persona_id = running.persona_id AND h.hour = running.hour) IS NULL
ORDER BY 1, 2;
