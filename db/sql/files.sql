-- Stored files and the rows that name them; which columns those are, ops.file_columns says.

-- name: lock
-- Whoever names or removes a stored file holds this lock, so that none is removed while a row comes to name it.
SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0));

-- name: is_named
SELECT ops.is_file_named(%(tenant_id)s, %(key)s);

-- name: notes_of
-- Notes of rows that named a file and are gone.
SELECT id FROM ops.released_files
WHERE tenant_id = %(tenant_id)s AND key_hash = hashtextextended(%(key)s, 0) AND key = %(key)s;

-- name: released
-- The next notes of any tenant.
SELECT id, tenant_id, key FROM ops.released_files WHERE id > %(after)s ORDER BY id LIMIT %(most)s;

-- name: forget
DELETE FROM ops.released_files WHERE id = ANY (%(ids)s);

-- name: named
-- The next keys that rows name, in the order of their bytes.
SELECT tenant_id, key FROM ops.named_files(%(after)s, %(before)s, %(most)s);

-- name: unowned
-- Those of some keys that no row names, and that no note is about: what is noted is about to be removed.
SELECT given.key FROM unnest(%(tenant_ids)s::uuid[], %(keys)s::text[]) AS given (tenant_id, key)
WHERE NOT ops.is_file_named(given.tenant_id, given.key) AND NOT EXISTS (
    SELECT FROM ops.released_files r WHERE r.tenant_id = given.tenant_id
        AND r.key_hash = hashtextextended(given.key, 0) AND r.key = given.key);

-- name: installation
-- Who this installation is.
SELECT id FROM ops.installation;

-- name: known_archives
-- Which of these parts are this database's.
SELECT id FROM ops.archives WHERE id = ANY (%(ids)s::uuid[]);

-- name: archives
-- The next parts of archives, with the keys of their files; one that is being written has not named them yet.
SELECT a.id, a.status = 'writing', CASE a.status WHEN 'erased' THEN '{}'
    ELSE array(SELECT f ->> 'key' FROM jsonb_array_elements(a.files) AS f) || array_remove(ARRAY[a.manifest_key], NULL) END
FROM ops.archives a WHERE a.id > %(after)s ORDER BY a.id LIMIT %(most)s;

-- name: archive_keys
-- Those of one part.
SELECT array(SELECT f ->> 'key' FROM jsonb_array_elements(a.files) AS f) || a.manifest_key FROM ops.archives a
WHERE a.id = %(id)s AND a.status <> 'erased';

-- name: now
SELECT clock_timestamp();

-- name: last_check
-- What the last check of all files found, and how many seconds ago. The events of one type are few: one a check.
WITH checks AS MATERIALIZED (
    SELECT metadata, created_at FROM audit.audit_events WHERE event_type = 'files.checked' AND tenant_id IS NULL
)
SELECT metadata, extract(epoch FROM now() - created_at)::float8 FROM checks ORDER BY created_at DESC LIMIT 1;
