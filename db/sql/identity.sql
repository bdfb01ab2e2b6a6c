-- Tenants, and who acts for them.

-- name: tenant_by_slug
SELECT id FROM identity.tenants WHERE slug = %(slug)s AND deleted_at IS NULL;
