-- Retention's policies and holds, as operators write them. What a policy takes says ops.retention_condition.

-- part: policies
SELECT p.id, p.name, p.table_schema || '.' || p.table_name, p.age_column, p.age::text, p.filter, p.action, p.tenant_id, p.persona_id,
    p.is_enabled, p.is_held, p.hold_reason, p.cadence, p.most_share::float8, p.source, p.description, t.slug, p.created_at, p.updated_at
FROM ops.retention_policies p LEFT JOIN identity.tenants t ON t.id = p.tenant_id

-- name: list
-- By table, and there as they outrank each other.
-- include: policies
ORDER BY p.table_schema, p.table_name, p.is_held DESC, num_nonnulls(p.tenant_id, p.persona_id) DESC,
    (SELECT count(*) FROM jsonb_object_keys(p.filter)) DESC, p.name;

-- name: show
-- include: policies
WHERE p.name = %(name)s;

-- name: held
-- One of them, to be changed.
-- include: policies
WHERE p.name = %(name)s FOR NO KEY UPDATE OF p;

-- name: add
INSERT INTO ops.retention_policies (name, table_schema, table_name, age_column, age, filter, action, tenant_id, persona_id, is_held,
    hold_reason, cadence, most_share, description)
VALUES (%(name)s, split_part(%(table)s, '.', 1), split_part(%(table)s, '.', 2), %(age_column)s, CAST(%(age)s AS interval), %(filter)s,
    %(action)s, %(tenant_id)s, %(persona_id)s, CAST(%(hold_reason)s AS text) IS NOT NULL, %(hold_reason)s, %(cadence)s, %(most_share)s,
    %(description)s);

-- name: edit
UPDATE ops.retention_policies SET age_column = %(age_column)s, age = CAST(%(age)s AS interval), filter = %(filter)s,
    action = %(action)s, cadence = %(cadence)s, most_share = %(most_share)s, description = %(description)s
WHERE id = %(id)s;

-- name: switch
UPDATE ops.retention_policies SET is_enabled = %(is_enabled)s WHERE id = %(id)s AND is_enabled <> %(is_enabled)s;

-- name: remove
DELETE FROM ops.retention_policies WHERE id = %(id)s;

-- name: outranking
-- Which enabled policy of a table takes rows out of which.
SELECT narrow.name, wide.name FROM ops.retention_policies narrow JOIN ops.retention_policies wide ON ops.outranks(narrow, wide)
WHERE narrow.is_enabled AND NOT narrow.is_held AND wide.is_enabled AND NOT wide.is_held
    AND wide.table_schema || '.' || wide.table_name = %(table)s
ORDER BY narrow.name;

-- name: columns
-- The columns of a table, with what each holds, and whether the table is parted by it; none where there is no such table.
SELECT a.attname, format_type(a.atttypid, a.atttypmod), COALESCE(a.attnum = p.partattrs[0], false)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
WHERE c.oid = to_regclass(%(table)s) AND c.relkind IN ('r', 'p') AND c.oid::regclass::text = %(table)s
ORDER BY a.attnum;

-- name: fits
SELECT ops.filter_fits(CAST(%(table)s AS regclass), %(name)s, %(value)s);

-- name: dependents
SELECT parent::text, child::text, action, depth, cleared_columns::text[] FROM ops.dependents(CAST(%(table)s AS regclass));
