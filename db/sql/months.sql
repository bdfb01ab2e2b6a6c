-- Months of parted tables: made ahead, and let go by policy. Each statement is a transaction of its own, so that a lock that others wait
-- for ends with it, whatever becomes of who asked for it. docs/decisions/0010-partitions.md.

-- name: missing
-- This month and the next two, where a table lacks them.
SELECT relation::text, since FROM ops.missing_months();

-- name: make
SELECT ops.make_month(%(relation)s, %(since)s);

-- name: to_go
SELECT leaf::text FROM ops.months_to_go(%(run_id)s);

-- name: clear
SELECT ops.clear_month(%(run_id)s, %(leaf)s, %(most)s);

-- name: drop
SELECT outcome, rows_held FROM ops.drop_month(%(run_id)s, %(leaf)s);
