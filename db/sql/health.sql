-- What `doctor` asks of the server itself. Any login of ours may run these.

-- name: server
SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector');

-- name: oldest_transaction
-- How many transactions the oldest snapshot lags behind (it keeps vacuum from cleaning the queue), and for how many
-- seconds the oldest transaction that this login may see has been open.
SELECT COALESCE(max(age(xmin)), 0)::bigint,
    (SELECT COALESCE(max(extract(epoch FROM now() - xact_start)), 0)::float8 FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid())
FROM (
    SELECT backend_xmin AS xmin FROM pg_stat_activity WHERE datname = current_database()
    UNION ALL SELECT xmin FROM pg_replication_slots
    UNION ALL SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()
) AS holders WHERE xmin IS NOT NULL;
