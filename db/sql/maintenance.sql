-- What tables and indexes there are to look after, and how it went. Names are quoted as the server quotes them.

-- name: allow
-- Get the right to look after all tables, where the server knows such a right.
SELECT ops.allow_maintenance(), current_setting('server_version_num')::integer / 10000;

-- name: settings
-- Of this session: a statement may take as long as its task, waits for a lock for %(lock)s seconds, leaves the disk to others, and ends
-- soon after its client did.
SELECT set_config('statement_timeout', %(seconds)s::integer || 's', false), set_config('lock_timeout', %(lock)s::float8 * 1000 || 'ms', false),
    set_config('vacuum_cost_delay', '2ms', false), set_config('client_connection_check_interval', %(check)s::float8 * 1000 || 'ms', false);

-- name: own_settings
-- As the session began.
SELECT set_config(name, reset_val, false) FROM pg_catalog.pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'vacuum_cost_delay', 'client_connection_check_interval');

-- part: held
-- Tables that somebody keeps from everybody, or an index of them: whoever asks for their size waits.
(SELECT COALESCE(i.indrelid, l.relation) FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = l.relation
    WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))

-- name: large_tables
-- Tables and partitions of so many bytes with their indexes and long values, that nobody vacuumed and analysed since the task was asked for;
-- of those that somebody holds nobody can say.
SELECT format('%%I.%%I', c.relnamespace::regnamespace, c.relname) FROM ops.kept_tables() t JOIN pg_catalog.pg_class c ON c.oid = t.relation
WHERE NOT t.is_parted AND CASE WHEN c.oid IN
-- include: held
    THEN true ELSE pg_total_relation_size(c.oid) >= %(bytes)s END
    AND NOT COALESCE(LEAST(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_analyze_time(c.oid)) >=
        (SELECT created_at FROM queue.tasks_live WHERE id = %(task_id)s), false)
ORDER BY 1;

-- name: parted_tables
-- Parted tables that nobody analysed since the task was asked for: autovacuum looks at their partitions alone.
SELECT format('%%I.%%I', c.relnamespace::regnamespace, c.relname) FROM ops.kept_tables() t JOIN pg_catalog.pg_class c ON c.oid = t.relation
WHERE t.is_parted AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AND NOT COALESCE(pg_stat_get_last_analyze_time(c.oid) >=
    (SELECT created_at FROM queue.tasks_live WHERE id = %(task_id)s), false)
ORDER BY 1;

-- name: indexes
-- Indexes of these tables, of so many bytes as far as anybody can say, that can be rebuilt beside the work.
SELECT format('%%I.%%I', c.relnamespace::regnamespace, c.relname) FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
JOIN ops.kept_tables() t ON t.relation = x.indrelid
WHERE t.relation = ANY (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS name) AND c.relkind = 'i' AND x.indisvalid
    AND NOT x.indisexclusion AND CASE WHEN t.relation IN
-- include: held
    THEN true ELSE pg_relation_size(c.oid) >= %(bytes)s END
ORDER BY 1;

-- name: state
-- Which one a name is of, its bytes with its indexes, and when it was last vacuumed and analysed by hand.
SELECT c.relfilenode::bigint, pg_relation_size(c.oid) + pg_indexes_size(c.oid), pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_analyze_time(c.oid)
FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(%(name)s);

-- name: leftovers
SELECT index::text FROM ops.leftover_indexes();

-- name: drop_leftover
SELECT ops.drop_leftover_index(%(index)s);
