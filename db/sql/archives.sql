-- Archives of aged rows: parts, what each holds, and the delete of that. docs/decisions/0012-archives.md.

-- name: pin
-- The form of what COPY gives and takes, to the end of the transaction: as the functions have it that hash.
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true), set_config('intervalstyle', 'postgres', true),
    set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true);

-- name: columns
SELECT name::text, type, is_key FROM ops.archive_columns(%(relation)s::regclass);

-- name: files
-- What a part of a table is made of: its own rows first.
SELECT place, format('%%s.%%s', n.nspname, c.relname), kind, columns::text[] FROM ops.archive_files(%(relation)s::regclass) f
JOIN pg_class c ON c.oid = f.relation JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY place;

-- name: pending
-- Parts of a run's table that are not done: its own, and those of runs that are over.
SELECT a.id, a.month, a.part, a.status, a.run_id IS NOT DISTINCT FROM %(run_id)s, a.goes_on_at, a.pages_emptied, a.row_count,
    COALESCE(a.manifest_key, ''), a.manifest_sha256
FROM ops.archives a LEFT JOIN ops.retention_runs r ON r.id = a.run_id
WHERE format('%%s.%%s', a.table_schema, a.table_name) = %(relation)s AND a.status IN ('writing', 'verified')
    AND (r.id IS NULL OR r.id = %(run_id)s OR r.status NOT IN ('running', 'asking'))
    AND COALESCE(a.restored_until < now(), true)
ORDER BY a.month, a.part;

-- name: next_month
SELECT ops.month_to_archive(%(run_id)s);

-- name: is_whole
SELECT ops.takes_whole_month(%(run_id)s, %(month)s);

-- name: blocks
SELECT ops.archive_blocks(%(run_id)s, %(month)s);

-- name: begin
-- A part that is to be written, and the block that it begins at: where the run's part of the month before it ended.
INSERT INTO ops.archives (run_id, policy_name, tenant_id, table_schema, table_name, age_column, month, part, schema_revision)
SELECT r.id, r.policy_name, r.tenant_id, r.table_schema, r.table_name, p.age_column, %(month)s,
    1 + COALESCE((SELECT max(a.part) FROM ops.archives a
        WHERE (a.table_schema, a.table_name, a.month) = (r.table_schema, r.table_name, %(month)s)), 0),
    (SELECT max(version_num) FROM public.alembic_version)
FROM ops.retention_runs r LEFT JOIN ops.retention_policies p ON p.id = r.policy_id WHERE r.id = %(run_id)s
RETURNING id, part, schema_revision, COALESCE((
    SELECT a.goes_on_at FROM ops.archives a WHERE a.run_id = %(run_id)s AND a.month = %(month)s AND a.status <> 'writing'
    ORDER BY a.part DESC LIMIT 1), 0);

-- name: gather
SELECT place, row_count FROM ops.gather_archive(%(archive_id)s, %(first_block)s, %(last_block)s);

-- name: stage
SELECT ops.archive_stage(%(relation)s, %(columns)s::name[]);

-- name: check
SELECT total, wrong FROM ops.check_stage(%(columns)s::name[]);

-- name: verify
-- The part stands in storage, whole.
UPDATE ops.archives SET status = 'verified', verified_at = GREATEST(clock_timestamp(), created_at), row_count = %(rows)s, byte_count = %(bytes)s,
    hash_sum = %(hash_sum)s, files = %(files)s, manifest_key = %(manifest_key)s, manifest_sha256 = %(manifest_sha256)s, since = %(since)s,
    until = %(until)s, goes_on_at = %(goes_on_at)s
WHERE id = %(archive_id)s AND status = 'writing'
RETURNING id;

-- name: add_subjects
INSERT INTO ops.archive_subjects (kind, subject_id, archive_id, row_count)
SELECT given.kind, given.subject_id, %(archive_id)s, given.row_count
FROM unnest(%(kinds)s::text[], %(ids)s::uuid[], %(counts)s::bigint[]) AS given (kind, subject_id, row_count);

-- name: note_written
UPDATE ops.retention_runs SET rows_archived = rows_archived + %(rows)s, byte_count = byte_count + %(bytes)s,
    manifest_location = %(manifest_key)s, manifest_checksum = %(manifest_sha256)s
WHERE id = %(run_id)s;

-- name: end_scan
-- The month was looked through to its end: what is left of it is looked for from its beginning.
UPDATE ops.archives SET goes_on_at = NULL WHERE run_id = %(run_id)s AND month = %(month)s AND goes_on_at IS NOT NULL;

-- name: empty
SELECT ops.empty_archive(%(run_id)s, %(archive_id)s, %(rows)s, %(known)s::bigint[]);

-- name: note_emptied
-- A page's rows are gone, but for those that stay: the next page, of the files that were read. Nothing where another worker was first, or the
-- part was written anew.
UPDATE ops.archives SET pages_emptied = %(pages)s, rows_deleted = rows_deleted + %(deleted)s, left_behind = left_behind || %(left)s::integer[]
WHERE id = %(archive_id)s AND status = 'verified' AND pages_emptied = %(pages)s - 1 AND manifest_key = %(manifest_key)s
RETURNING id;

-- name: note_deleted
UPDATE ops.retention_runs SET rows_deleted = rows_deleted + %(deleted)s WHERE id = %(run_id)s;

-- name: end_part
UPDATE ops.archives SET status = 'emptied', emptied_at = GREATEST(clock_timestamp(), verified_at)
WHERE id = %(archive_id)s AND status = 'verified' AND manifest_key = %(manifest_key)s
RETURNING rows_deleted;

-- name: lock_void
-- A part for which no row was deleted nor will be: whoever writes or empties it meanwhile waits, and finds it gone.
SELECT id FROM ops.archives WHERE id = %(archive_id)s AND (status = 'writing' OR status = 'emptied' AND rows_deleted = 0) FOR UPDATE;

-- name: discard
DELETE FROM ops.archives WHERE id = %(archive_id)s AND (status = 'writing' OR status = 'emptied' AND rows_deleted = 0);

-- name: drop_month
SELECT ops.drop_archived(%(run_id)s, %(month)s);

-- name: emptied_months
-- Months of a run that may stand empty in their table.
SELECT DISTINCT a.month FROM ops.archives a WHERE a.run_id = %(run_id)s AND a.status = 'emptied' ORDER BY a.month;
