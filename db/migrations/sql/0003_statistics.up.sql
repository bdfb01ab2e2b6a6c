-- What happened in each minute, for charts, and what is wrong now, for whoever is to be told. Relays write both; nothing of
-- a task's life does.

-- What one relay does for all of them, and up to when it is done: `statistics`, the end of the last minute that was
-- counted; `alerts`, the last look. Whoever holds the row does it, the others skip it.
CREATE TABLE queue.chores (
    name text PRIMARY KEY CHECK (name IN ('statistics', 'alerts')),
    reached_at timestamptz NOT NULL
);
INSERT INTO queue.chores (name, reached_at)
VALUES ('statistics', date_trunc('minute', now(), 'UTC')), ('alerts', '-infinity');

-- What ended in a minute. `runs` of the ended tasks had started: the seconds of running and waiting are theirs. The columns
-- from `retried` on count attempts that ended without ending their task.
CREATE TABLE queue.statistics (
    minute timestamptz NOT NULL,
    queue text NOT NULL,
    task_type text NOT NULL,
    done integer NOT NULL CHECK (done >= 0),
    failed integer NOT NULL CHECK (failed >= 0),
    cancelled integer NOT NULL CHECK (cancelled >= 0),
    runs integer NOT NULL CHECK (runs BETWEEN 0 AND done + failed + cancelled),
    run_seconds double precision NOT NULL CHECK (run_seconds >= 0),
    run_seconds_max double precision NOT NULL CHECK (run_seconds_max >= 0),
    wait_seconds double precision NOT NULL CHECK (wait_seconds >= 0),
    wait_seconds_max double precision NOT NULL CHECK (wait_seconds_max >= 0),
    retried integer NOT NULL CHECK (retried >= 0),
    snoozed integer NOT NULL CHECK (snoozed >= 0),
    lost integer NOT NULL CHECK (lost >= 0),
    handed_back integer NOT NULL CHECK (handed_back >= 0),
    PRIMARY KEY (minute, queue, task_type)
);

-- How a queue stood at the beginning of a minute.
CREATE TABLE queue.gauges (
    minute timestamptz NOT NULL,
    queue text NOT NULL,
    waiting integer NOT NULL CHECK (waiting >= 0),
    running integer NOT NULL CHECK (running >= 0),
    oldest_seconds double precision NOT NULL CHECK (oldest_seconds >= 0),
    PRIMARY KEY (minute, queue)
);

-- A minute's attempts are found by it; those of done tasks are no rows, so the hot path does not pay for it.
CREATE INDEX attempts_ended_at_idx ON queue.attempts (ended_at);

-- What is wrong, or was: one raised row a key, whichever relays see it. `facts` are ids, names, counts and seconds, never
-- payloads or texts of errors. A state is told once the webhook took it; `next_try_at` is NULL where there is nothing to tell.
CREATE TABLE queue.alerts (
    id uuid PRIMARY KEY DEFAULT ops.uuid_v7(),
    kind text NOT NULL CHECK (kind IN ('final_failures', 'stalled_queue', 'dead_loop', 'silent_process')),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 300),
    state text NOT NULL DEFAULT 'raised' CHECK (state IN ('raised', 'resolved')),
    facts jsonb NOT NULL CHECK (jsonb_typeof(facts) = 'object' AND pg_column_size(facts) <= 8192),
    raised_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    notified_state text CHECK (notified_state IN ('raised', 'resolved')),
    notified_at timestamptz,
    next_try_at timestamptz DEFAULT now(),
    tries integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    CONSTRAINT resolved_says_when CHECK ((state = 'resolved') = (resolved_at IS NOT NULL)),
    CONSTRAINT notified_says_when CHECK ((notified_state IS NULL) = (notified_at IS NULL)),
    CONSTRAINT told_in_order CHECK (notified_state IS DISTINCT FROM 'resolved' OR state = 'resolved')
);
CREATE UNIQUE INDEX alerts_raised_key ON queue.alerts (key) WHERE state = 'raised';
CREATE INDEX alerts_next_try_at_idx ON queue.alerts (next_try_at) WHERE next_try_at IS NOT NULL;

-- None of it is a tenant's: counts by queue and task type, and what processes say of themselves.
GRANT SELECT ON queue.statistics, queue.gauges, queue.alerts
    TO greenroom_relay, greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
GRANT SELECT, UPDATE ON queue.chores TO greenroom_relay;
GRANT INSERT, UPDATE, DELETE ON queue.statistics, queue.gauges, queue.alerts TO greenroom_relay;
