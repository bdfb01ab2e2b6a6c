-- Archives as they are listed and brought back; as the system role, listed and looked at as an operator, too.

-- name: list
SELECT a.id, format('%%s.%%s', a.table_schema, a.table_name), a.month, a.part, a.status, a.row_count, a.byte_count, a.policy_name,
    a.created_at, a.emptied_at, a.restored_until, a.manifest_key, a.manifest_sha256, a.files
FROM ops.archives a
WHERE (%(table)s::text IS NULL OR format('%%s.%%s', a.table_schema, a.table_name) = %(table)s)
    AND (%(month)s::date IS NULL OR a.month = %(month)s)
    AND (%(kind)s::text IS NULL OR EXISTS (SELECT FROM ops.archive_subjects s
        WHERE s.kind = %(kind)s AND s.subject_id = %(subject_id)s::uuid AND s.archive_id = a.id))
ORDER BY a.table_schema, a.table_name, a.month, a.part;

-- name: parts
-- The newest first: of a row that is in two of them it has the last state.
SELECT a.id, a.month, a.part, a.row_count, a.left_behind, a.manifest_key, a.manifest_sha256, a.files FROM ops.archives a
WHERE a.table_schema = %(schema)s AND a.table_name = %(name)s AND a.status IN ('verified', 'emptied')
    AND (%(since)s::date IS NULL OR a.month >= %(since)s) AND (%(until)s::date IS NULL OR a.month <= %(until)s)
    AND (%(tenant_id)s::uuid IS NULL OR EXISTS (SELECT FROM ops.archive_subjects s
        WHERE s.kind = 'tenant' AND s.subject_id = %(tenant_id)s AND s.archive_id = a.id))
ORDER BY a.id DESC;

-- name: keep
UPDATE ops.archives SET restored_until = GREATEST(restored_until, now() + %(keep)s::interval) WHERE id = ANY (%(archives)s::uuid[]);

-- name: columns
-- What a table has today; nothing where it is gone. `is_required`: a row has to bring a value.
SELECT c.name, c.is_key, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
    EXISTS (SELECT FROM ops.parted_tables() p WHERE p.relation = a.attrelid AND p.key = c.name)
FROM ops.archive_columns(to_regclass(%(relation)s)) c JOIN pg_attribute a ON a.attrelid = to_regclass(%(relation)s) AND a.attname = c.name;

-- name: is_keyed
SELECT COALESCE(ops.is_keyed(to_regclass(%(relation)s)), true);

-- name: references
-- What a delete would take along or change: by which columns a child refers to which of its parent, and how far down.
SELECT d.parent::text, d.child::text, d.child_columns::text[], d.parent_columns::text[], d.action, max(d.depth)
FROM ops.dependents(to_regclass(%(relation)s)) d WHERE d.action IN ('cascade', 'set_null') GROUP BY 1, 2, 3, 4, 5 ORDER BY 6, 1, 2, 3;

-- name: month
SELECT ops.restore_month(%(relation)s, %(month)s);

-- name: page
SELECT written, same, other, refused
FROM ops.restore_page(%(archive)s, %(file)s, %(without)s::text[], %(rows)s::json);
