-- What every process asks of the schema before it works. Any login of ours may run these.

-- name: has_revision
SELECT to_regclass('public.alembic_version') IS NOT NULL;

-- name: revision
-- No row: everything was taken down again.
SELECT version_num FROM public.alembic_version;
