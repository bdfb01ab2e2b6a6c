-- Encrypted values: which stand under which key, and each under another.

-- name: under
-- A page of the values that stand under any of some keys, behind one of them; as the system role those of all tenants.
SELECT place, id, tenant_id, text, key_id FROM (
    SELECT 'vault.secrets' AS place, id, tenant_id, encrypted_value AS text, key_id FROM vault.secrets
    UNION ALL
    SELECT 'vault.provider_keys', id, tenant_id, encrypted_key, key_id FROM vault.provider_keys
) AS all_of_them
WHERE key_id = ANY (%(key_ids)s) AND (id, place) > (%(after)s::uuid, %(place)s)
ORDER BY id, place LIMIT %(most)s;

-- name: count_by_key
-- How many values stand under each key.
SELECT key_id, count(*) FROM (SELECT key_id FROM vault.secrets UNION ALL SELECT key_id FROM vault.provider_keys) AS all_of_them
GROUP BY key_id ORDER BY key_id;

-- name: sealed_types
-- Task types that ask for fields to be encrypted: those whose published schema has one that is.
SELECT name FROM queue.task_types t
WHERE EXISTS (
    SELECT FROM jsonb_each(COALESCE(t.payload_schema -> 'properties', '{}')) AS field
    WHERE field.value -> 'anyOf' -> 0 -> 'required' = '["encrypted"]')
ORDER BY name;

-- name: has_hashes
-- Whether there are API keys: they are hashed with what is derived from the ring.
SELECT EXISTS (SELECT FROM identity.api_keys WHERE status = 'active');

-- name: reseal_secrets
-- Nobody changed them meanwhile: what was written since is under the new key, or is another value.
UPDATE vault.secrets s SET encrypted_value = given.text, key_id = %(key_id)s
FROM unnest(%(ids)s::uuid[], %(texts)s::text[], %(befores)s::text[]) AS given (id, text, before)
WHERE s.id = given.id AND s.encrypted_value = given.before;

-- name: reseal_provider_keys
UPDATE vault.provider_keys p SET encrypted_key = given.text, key_id = %(key_id)s
FROM unnest(%(ids)s::uuid[], %(texts)s::text[], %(befores)s::text[]) AS given (id, text, before)
WHERE p.id = given.id AND p.encrypted_key = given.before;

-- name: put_secret
INSERT INTO vault.secrets (id, tenant_id, persona_id, secret_type, key_name, encrypted_value, key_id)
VALUES (%(id)s, %(tenant_id)s, %(persona_id)s, %(secret_type)s, %(key_name)s, %(text)s, %(key_id)s)
ON CONFLICT (tenant_id, persona_id, secret_type, key_name)
DO UPDATE SET encrypted_value = EXCLUDED.encrypted_value, key_id = EXCLUDED.key_id
WHERE secrets.id = EXCLUDED.id;

-- part: named
-- The row that holds a secret. In two: IS NOT DISTINCT FROM goes by no index.
SELECT id, encrypted_value, key_id FROM vault.secrets
WHERE tenant_id = %(tenant_id)s AND persona_id = %(persona_id)s AND secret_type = %(secret_type)s AND key_name = %(key_name)s
UNION ALL
SELECT id, encrypted_value, key_id FROM vault.secrets
WHERE tenant_id = %(tenant_id)s AND persona_id IS NULL AND %(persona_id)s::uuid IS NULL
    AND secret_type = %(secret_type)s AND key_name = %(key_name)s

-- name: secret_id
-- The id of the row that holds a secret, or a new one for it.
SELECT coalesce(max(id::text)::uuid, ops.uuid_v7()) FROM (
-- include: named
) AS found;

-- name: secret
-- include: named
;

-- name: secret_of_id
SELECT encrypted_value, key_id FROM vault.secrets WHERE id = %(id)s;

-- name: change_secret
-- The value of a secret whose row is known, unless somebody changed it meanwhile.
UPDATE vault.secrets SET encrypted_value = %(text)s, key_id = %(key_id)s WHERE id = %(id)s AND encrypted_value = %(before)s;
