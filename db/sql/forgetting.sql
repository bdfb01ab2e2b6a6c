-- Archives without somebody who is erased: the parts that hold rows of them, one written anew after the other.

-- name: unwritten
-- Parts that are being written, and whether a task that lives is at it: nobody knows yet whose they are, but that one tenant's are not
-- another's.
SELECT a.id, a.table_schema || '.' || a.table_name, a.month, a.part,
    EXISTS (SELECT FROM ops.retention_runs r JOIN queue.tasks_live t ON t.id = r.task_id WHERE r.id = a.run_id AND r.status = 'running')
FROM ops.archives a WHERE a.status = 'writing' AND (a.tenant_id IS NULL OR a.tenant_id = COALESCE(%(tenant_id)s, a.tenant_id))
ORDER BY a.id;

-- name: next
-- The next part that holds rows of somebody, and whether a task that lives is emptying its table of it.
SELECT a.id, a.table_schema || '.' || a.table_name, a.month, a.part, a.manifest_key, a.manifest_sha256, a.left_behind, a.pages_emptied,
    a.status = 'verified' AND EXISTS (SELECT FROM ops.retention_runs r JOIN queue.tasks_live t ON t.id = r.task_id
        WHERE r.id = a.run_id AND r.status = 'running')
FROM ops.archive_subjects s JOIN ops.archives a ON a.id = s.archive_id
WHERE s.kind = %(kind)s AND s.subject_id = %(id)s AND a.id > %(after)s AND a.status IN ('verified', 'emptied')
ORDER BY a.id LIMIT 1;

-- name: discard
-- A part that was being written, and that nobody goes on with: no row was deleted for it.
DELETE FROM ops.archives a WHERE a.id = %(id)s AND a.status = 'writing' AND NOT EXISTS (SELECT FROM ops.retention_runs r
    JOIN queue.tasks_live t ON t.id = r.task_id WHERE r.id = a.run_id AND r.status = 'running')
RETURNING a.id;

-- name: lock_run
-- Whoever takes up a part's run from here on waits, and then reads the part as it is by then.
SELECT r.id FROM ops.retention_runs r JOIN ops.archives a ON a.run_id = r.id WHERE a.id = %(id)s FOR UPDATE OF r;

-- name: swap
-- The new files take the place of the old ones, unless somebody was first, or a task is at the old ones.
UPDATE ops.archives a SET files = %(files)s, manifest_key = COALESCE(%(manifest_key)s, a.manifest_key),
    manifest_sha256 = COALESCE(%(manifest_sha256)s, a.manifest_sha256), row_count = %(rows)s, byte_count = %(bytes)s, hash_sum = %(hash_sum)s,
    left_behind = %(left_behind)s, pages_emptied = %(pages_emptied)s,
    status = CASE WHEN %(manifest_key)s IS NULL THEN 'erased' ELSE a.status END
WHERE a.id = %(id)s AND a.manifest_key = %(was)s AND a.status IN ('verified', 'emptied')
    AND (a.status = 'emptied' OR NOT EXISTS (SELECT FROM ops.retention_runs r JOIN queue.tasks_live t ON t.id = r.task_id
        WHERE r.id = a.run_id AND r.status = 'running'))
RETURNING a.id;

-- name: drop_subjects
-- Whom a part speaks of no more.
DELETE FROM ops.archive_subjects s WHERE s.archive_id = %(id)s AND NOT EXISTS (
    SELECT FROM unnest(%(kinds)s::text[], %(ids)s::uuid[]) AS left_in (kind, subject_id)
    WHERE left_in.kind = s.kind AND left_in.subject_id = s.subject_id);

-- name: recount_subjects
UPDATE ops.archive_subjects s SET row_count = given.row_count
FROM unnest(%(kinds)s::text[], %(ids)s::uuid[], %(counts)s::bigint[]) AS given (kind, subject_id, row_count)
WHERE s.archive_id = %(id)s AND s.kind = given.kind AND s.subject_id = given.subject_id AND s.row_count <> given.row_count;

-- name: leave_tenant
-- What is left of a tenant's archives are counts.
UPDATE ops.archives SET tenant_id = NULL, policy_name = 'erased' WHERE tenant_id = %(id)s;

-- name: hash
SELECT ops.hash_archived(%(table)s, %(columns)s::name[], %(rows)s);

-- name: held
SELECT place, hold FROM ops.hold_archived(%(table)s, %(columns)s::name[], %(rows)s);

-- name: holds
SELECT ops.holds_on(%(tables)s);

-- name: keep_holds
SELECT ops.keep_holds(%(tables)s);

-- name: await_deletions
SELECT ops.await_deletions();
