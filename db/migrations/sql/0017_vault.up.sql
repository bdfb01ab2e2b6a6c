-- The data model: the vault. The application encrypts (AES-256-GCM, the row's table and key as associated data) and decrypts with a
-- key ring that the database never sees; a value that is moved to another row does not open.

CREATE SCHEMA vault;

CREATE TABLE vault.secrets (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid,
    secret_type text NOT NULL,
    key_name text NOT NULL,
    encrypted_value text NOT NULL,
    key_id text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT secrets_pkey PRIMARY KEY (id),
    CONSTRAINT secrets_key_name_key UNIQUE NULLS NOT DISTINCT (tenant_id, persona_id, secret_type, key_name),
    CONSTRAINT secrets_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT secrets_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT secrets_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT secrets_secret_type_check CHECK (secret_type IN ('llm_provider_key', 'email_imap', 'email_smtp', 'other')),
    CONSTRAINT secrets_key_name_check CHECK (length(key_name) BETWEEN 1 AND 255),
    CONSTRAINT secrets_encrypted_value_check CHECK (length(encrypted_value) BETWEEN 38 AND 100000),
    CONSTRAINT secrets_key_id_check CHECK (length(key_id) BETWEEN 1 AND 64)
);
CREATE INDEX secrets_key_id_idx ON vault.secrets (key_id);
CREATE INDEX secrets_persona_id_idx ON vault.secrets (persona_id);
COMMENT ON TABLE vault.secrets IS 'A secret of a persona''s, or of the whole tenant''s where it names none.';
COMMENT ON COLUMN vault.secrets.persona_id IS 'None: of the whole tenant';
COMMENT ON COLUMN vault.secrets.key_name IS 'What it is called, as openai_api_key';
COMMENT ON COLUMN vault.secrets.encrypted_value IS 'AES-256-GCM ciphertext, made by the application';
COMMENT ON COLUMN vault.secrets.key_id IS 'Of the key ring''s key that opens it';
CREATE TRIGGER touch BEFORE UPDATE ON vault.secrets FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE vault.provider_keys (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    user_id uuid NOT NULL,
    service text NOT NULL,
    encrypted_key text NOT NULL,
    key_id text NOT NULL,
    last_4_chars text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT provider_keys_pkey PRIMARY KEY (id),
    CONSTRAINT provider_keys_user_id_service_key UNIQUE (user_id, service),
    CONSTRAINT provider_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT provider_keys_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT provider_keys_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT provider_keys_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT provider_keys_service_check CHECK (service IN ('elevenlabs', 'openai', 'telegram', 'anthropic')),
    CONSTRAINT provider_keys_encrypted_key_check CHECK (length(encrypted_key) BETWEEN 38 AND 100000),
    CONSTRAINT provider_keys_key_id_check CHECK (length(key_id) BETWEEN 1 AND 64),
    CONSTRAINT provider_keys_last_4_chars_check CHECK (length(last_4_chars) <= 10)
);
CREATE INDEX provider_keys_tenant_id_idx ON vault.provider_keys (tenant_id);
CREATE UNIQUE INDEX provider_keys_external_id_key ON vault.provider_keys (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX provider_keys_key_id_idx ON vault.provider_keys (key_id);
CREATE INDEX provider_keys_user_id_idx ON vault.provider_keys (user_id);
COMMENT ON TABLE vault.provider_keys IS 'A user''s own key of a provider''s service.';
COMMENT ON COLUMN vault.provider_keys.external_id IS 'The product''s own key';
COMMENT ON COLUMN vault.provider_keys.encrypted_key IS 'AES-256-GCM ciphertext, made by the application';
COMMENT ON COLUMN vault.provider_keys.key_id IS 'Of the key ring''s key that opens it';
COMMENT ON COLUMN vault.provider_keys.last_4_chars IS 'What may be shown of the key';
CREATE TRIGGER touch BEFORE UPDATE ON vault.provider_keys FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- row security and grants

GRANT USAGE ON SCHEMA vault TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('vault.secrets', 'vault.provider_keys');
SELECT ops.bind_to_user('vault.provider_keys');
-- A reader sees that there is a secret, not even its ciphertext.
REVOKE SELECT ON vault.secrets, vault.provider_keys FROM greenroom_reader;
GRANT SELECT (id, tenant_id, persona_id, secret_type, key_name, key_id, created_at, updated_at) ON vault.secrets TO greenroom_reader;
GRANT SELECT (id, tenant_id, external_id, user_id, service, key_id, last_4_chars, created_at, updated_at) ON vault.provider_keys
    TO greenroom_reader;
