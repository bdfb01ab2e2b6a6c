-- Tenants, and who acts for them.

-- name: tenant_by_slug
SELECT id FROM identity.tenants WHERE slug = %(slug)s AND deleted_at IS NULL;

-- name: slugs_of
SELECT id, slug FROM identity.tenants WHERE id = ANY (%(ids)s);

-- name: find_api_key
-- The key of one of some hashes, while it opens; notes its use.
SELECT id, tenant_id, user_id, name, scopes, expires_at FROM identity.find_api_key(%(key_hashes)s);

-- name: find_session
SELECT id, tenant_id, user_id, expires_at FROM identity.find_session(%(token_hash)s);

-- name: tenant_of_user
SELECT tenant_id FROM identity.users WHERE id = %(user_id)s;

-- name: erase_user
SELECT identity.erase_user(%(tenant_id)s, %(user_id)s);
