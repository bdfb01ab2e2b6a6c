-- What has a time to live is marked when it is over, the oldest first: generated personas (001) and API keys (000, 004). A mark asks
-- again whether its row is due, in words that no index knows: the rows are found by their keys, and not by all that is due.

-- name: due_personas
-- The next that have no mark.
SELECT id FROM people.personas WHERE expired_at IS NULL AND expires_at <= now() ORDER BY expires_at LIMIT %(most)s;

-- name: mark_personas
-- Those of them that are still due.
UPDATE people.personas SET expired_at = now() WHERE id = ANY (%(ids)s) AND num_nonnulls(expired_at) = 0 AND COALESCE(expires_at <= now(), false)
RETURNING id, tenant_id;

-- name: due_api_keys
-- The next that stand as active; one that was revoked stays so.
SELECT id FROM identity.api_keys WHERE status = 'active' AND expires_at <= now() ORDER BY expires_at LIMIT %(most)s;

-- name: mark_api_keys
-- Those of them that are still due.
UPDATE identity.api_keys SET status = 'expired' WHERE id = ANY (%(ids)s) AND COALESCE(status = 'active' AND expires_at <= now(), false)
RETURNING id, tenant_id;
