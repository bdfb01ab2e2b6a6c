-- What `doctor` asks of the server itself. Any login of ours may run these.

-- name: bound
-- The transaction that this begins only reads, and no statement of it takes longer than so many milliseconds.
SELECT set_config('statement_timeout', %(milliseconds)s, true), set_config('transaction_read_only', 'on', true);

-- name: server
SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,
    (SELECT extversion FROM pg_extension WHERE extname = 'vector');

-- name: now
SELECT clock_timestamp();

-- name: oldest_transaction
-- How many transactions the oldest snapshot lags behind (it keeps vacuum from cleaning the queue), and who holds it, which all may
-- see, but for who asks: its snapshot is as old as the oldest writer's of any database. For how many seconds the oldest transaction
-- has been open of those whose age this login may see; whether that is all.
SELECT COALESCE(max(age(xmin)), 0)::bigint, COALESCE((array_agg(holder ORDER BY age(xmin) DESC))[1], ''),
    (SELECT COALESCE(max(extract(epoch FROM now() - xact_start)), 0)::float8 FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()),
    pg_has_role('pg_read_all_stats', 'USAGE')
FROM (
    SELECT unnest(ARRAY[backend_xmin, backend_xid]) AS xmin, application_name || ', process ' || pid AS holder FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    UNION ALL SELECT xmin, 'replication slot ' || slot_name FROM pg_replication_slots
    UNION ALL SELECT transaction, 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database()
) AS holders WHERE xmin IS NOT NULL;

-- name: connections
-- Connections that are open, and how many there may be that no superuser is owed.
SELECT (SELECT COALESCE(sum(numbackends), 0)::int FROM pg_stat_database WHERE datname IS NOT NULL),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - current_setting('reserved_connections')::int;

-- name: database_state
-- The age of the oldest row that is not frozen, in transactions; pages whose checksum was wrong; what the collation was
-- when the database was made, and what it is now (null: of no version).
SELECT age(d.datfrozenxid), COALESCE(s.checksum_failures, 0), d.datcollversion, pg_database_collation_actual_version(d.oid)
FROM pg_database d LEFT JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database();

-- name: autovacuum
SELECT current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean;

-- name: dead_rows
-- Tables of ours of which most rows are dead, and that were not vacuumed for so many seconds.
SELECT format('%%I.%%I', schemaname, relname), n_dead_tup, n_live_tup,
    extract(epoch FROM now() - greatest(last_vacuum, last_autovacuum))::float8
FROM pg_stat_user_tables
WHERE schemaname = ANY (%(schemas)s) AND n_dead_tup >= %(rows)s AND n_dead_tup >= %(share)s * (n_dead_tup + n_live_tup)
    AND COALESCE(greatest(last_vacuum, last_autovacuum) < now() - make_interval(secs => %(seconds)s), true)
ORDER BY n_dead_tup DESC LIMIT 20;

-- name: invalid_indexes
-- Indexes of ours that are written and not read, and that nobody builds: who does holds the table's lock.
SELECT format('%%I.%%I', n.nspname, c.relname), format('%%I.%%I', n.nspname, t.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND n.nspname = ANY (%(schemas)s) AND NOT EXISTS (
    SELECT FROM pg_locks l WHERE l.relation = i.indrelid AND l.granted
        AND l.mode = ANY ('{ShareLock,ShareUpdateExclusiveLock,AccessExclusiveLock}')
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY 1 LIMIT 20;

-- name: notify
SELECT pg_notify('greenroom_doctor', %(word)s);
