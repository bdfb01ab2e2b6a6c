-- What a database is made of, as `db.drift` compares it: each row is a kind, where it is, its name, and how it is defined. Of the
-- schemas that are named alone; partitions that are made while the system runs, months and spaces, go by rules.

-- part: relations
-- Ours, but for partitions of run time; those of the queue's tasks are the schema's own.
SELECT c.oid, c.relname, c.relkind, c.relacl, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.relpersistence, c.reloptions,
    format('%%I.%%I', n.nspname, c.relname) AS place
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
WHERE (n.nspname = ANY (%(schemas)s) OR n.nspname = 'public' AND c.relname = 'alembic_version')
    AND (NOT c.relispartition OR i.inhparent = to_regclass('queue.outbox_tasks')) AND c.relkind = ANY ('{r,p,v,m,S,f}')

-- part: leaves
-- Months and spaces of our tables, wherever they are.
SELECT c.oid, format('%%I.%%I', c.relnamespace::regnamespace, c.relname) AS place, c.relrowsecurity, c.relforcerowsecurity,
    c.relacl, c.relowner, p.relrowsecurity AS is_bound, p.relowner AS parent_owner
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
WHERE c.relkind = ANY ('{r,p,f}') AND p.relkind = 'p' AND p.relnamespace::regnamespace::text = ANY (%(schemas)s)
    AND p.oid IS DISTINCT FROM to_regclass('queue.outbox_tasks')

-- name: schemas
-- Every schema of a database that holds nothing but ours.
SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_' ORDER BY 1;

-- name: tables
-- Tables, views and sequences; a view by a digest of its text.
WITH relations AS (
    -- include: relations
)
SELECT CASE WHEN r.relkind = ANY ('{v,m}') THEN 'view' WHEN r.relkind = 'S' THEN 'sequence' ELSE 'table' END, r.place, '',
    concat_ws(' ', CASE r.relpersistence WHEN 'u' THEN 'unlogged' END,
        CASE WHEN r.relkind = 'p' THEN 'by ' || pg_get_partkeydef(r.oid) END,
        CASE WHEN r.relkind = ANY ('{v,m}') THEN left(md5(pg_get_viewdef(r.oid)), 16) || COALESCE(' ' || r.reloptions::text, '') END)
FROM relations r;

-- name: row_security
-- Whether rows of a table are bound, and to its owner, too.
WITH relations AS (
    -- include: relations
)
SELECT 'row security', r.place, '',
    CASE WHEN NOT r.relrowsecurity THEN 'off' WHEN r.relforcerowsecurity THEN 'on and forced' ELSE 'on' END
FROM relations r WHERE r.relkind = ANY ('{r,p}');

-- name: columns
-- Columns of tables: type, whether they must have a value, and where it comes from.
WITH relations AS (
    -- include: relations
)
SELECT 'column', r.place, a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
    CASE a.attgenerated WHEN '' THEN 'default' ELSE 'always' END || ' ' || pg_get_expr(d.adbin, d.adrelid),
    CASE a.attidentity WHEN 'a' THEN 'counts up always' WHEN 'd' THEN 'counts up' END)
FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE r.relkind = ANY ('{r,p}');

-- name: constraints
-- Keys, references and checks. NOT NULL is the column's: only PostgreSQL 18 has a constraint of it.
WITH relations AS (
    -- include: relations
)
SELECT 'constraint', r.place, k.conname, pg_get_constraintdef(k.oid)
FROM relations r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid
WHERE k.conparentid = 0 AND k.contype NOT IN ('n', 't');

-- name: indexes
-- Indexes but for those of constraints.
WITH relations AS (
    -- include: relations
)
SELECT 'index', r.place, c.relname, pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' (invalid)' END
FROM relations r JOIN pg_catalog.pg_index x ON x.indrelid = r.oid JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = x.indexrelid AND k.conrelid = x.indrelid);

-- name: policies
-- Policies of row security; the owner has another name in each database.
WITH relations AS (
    -- include: relations
)
SELECT 'policy', r.place, p.polname, concat_ws(' ', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
    CASE p.polcmd WHEN 'r' THEN 'for select' WHEN 'a' THEN 'for insert' WHEN 'w' THEN 'for update' WHEN 'd' THEN 'for delete' END, 'to',
    (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' WHEN r.relowner THEN 'the owner' ELSE pg_get_userbyid(role) END, ', ' ORDER BY
        CASE role WHEN 0 THEN 'PUBLIC' WHEN r.relowner THEN 'the owner' ELSE pg_get_userbyid(role) END COLLATE "C") FROM unnest(p.polroles) AS role),
    'using ' || pg_get_expr(p.polqual, p.polrelid), 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
FROM relations r JOIN pg_catalog.pg_policy p ON p.polrelid = r.oid;

-- name: triggers
-- Triggers, and apart from them whether they fire: who disables one leaves it there.
WITH relations AS (
    -- include: relations
)
SELECT each.kind, r.place, t.tgname, each.definition
FROM relations r JOIN pg_catalog.pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal,
LATERAL (VALUES ('trigger', pg_get_triggerdef(t.oid)),
    ('trigger state', CASE t.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled on replicas alone'
        ELSE 'enabled always' END)) AS each (kind, definition);

-- name: functions
-- Functions by a digest of all that CREATE FUNCTION says of them, settings and SECURITY DEFINER too.
SELECT 'function', format('%%I.%%I(%%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), '',
    left(md5(pg_get_functiondef(p.oid)), 16)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY (%(schemas)s) AND p.prokind <> 'a';

-- name: grants
-- Who but the owner may do what with schemas, tables, columns and functions. A product's own login may call functions. That the
-- system role looks after a table (MAINTAIN) is granted when it first does, where the server knows the privilege.
WITH relations AS (
    -- include: relations
), held (place, owner, acl) AS (
    SELECT format('schema %%I', nspname), nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = ANY (%(schemas)s)
    UNION ALL
    SELECT r.place, r.relowner, r.relacl FROM relations r
    UNION ALL
    SELECT format('column %%s.%%I', r.place, a.attname), r.relowner, a.attacl
    FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT format('%%I.%%I(%%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner,
        COALESCE(p.proacl, acldefault('f', p.proowner))
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = ANY (%(schemas)s)
)
SELECT 'grant', held.place, CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(one.grantee) END,
    string_agg(one.privilege_type || CASE WHEN one.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY one.privilege_type COLLATE "C")
FROM held, aclexplode(held.acl) AS one
WHERE one.grantee <> held.owner AND (one.privilege_type NOT IN ('EXECUTE', 'USAGE') OR one.grantee = 0
    OR pg_get_userbyid(one.grantee) ~ '^greenroom_')
    AND (one.privilege_type <> 'MAINTAIN' OR pg_get_userbyid(one.grantee) <> 'greenroom_system')
GROUP BY held.place, one.grantee;

-- name: loose_partitions
-- Of months and spaces what breaks their rules: they are bound as their table is, pass their owner alone, grant nothing but that the
-- system role looks after them, and fire.
WITH leaves AS (
    -- include: leaves
)
SELECT format('row security of partition %%s is %%s, not on and forced', l.place, CASE WHEN l.relrowsecurity THEN 'on' ELSE 'off' END)
FROM leaves l WHERE l.is_bound AND NOT (l.relrowsecurity AND l.relforcerowsecurity)
UNION ALL
SELECT format('policy %%s on partition %%s is in the database alone', p.polname, l.place)
FROM leaves l JOIN pg_catalog.pg_policy p ON p.polrelid = l.oid
WHERE p.polname <> 'owner_passes' OR p.polroles <> ARRAY[l.parent_owner]
UNION ALL
SELECT format('grant to %%s on partition %%s is in the database alone: %%s',
    CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(one.grantee) END, l.place,
    string_agg(one.privilege_type, ', ' ORDER BY one.privilege_type COLLATE "C"))
FROM leaves l, aclexplode(l.relacl) AS one
WHERE one.grantee <> l.relowner AND (one.privilege_type <> 'MAINTAIN' OR pg_get_userbyid(one.grantee) <> 'greenroom_system') GROUP BY l.place, one.grantee
UNION ALL
SELECT format('trigger %%s on partition %%s is disabled', t.tgname, l.place)
FROM leaves l JOIN pg_catalog.pg_trigger t ON t.tgrelid = l.oid AND t.tgenabled = 'D'
LEFT JOIN pg_catalog.pg_trigger table_s ON table_s.oid = t.tgparentid
-- who disables a table's, disables its partitions'
WHERE (table_s.oid IS NULL OR table_s.tgenabled <> 'D') AND (table_s.oid IS NOT NULL OR NOT t.tgisinternal)
ORDER BY 1;
