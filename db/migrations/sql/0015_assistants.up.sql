-- The data model, assistants: personas and agents, clients and conversations, runs and workflows (000, 003, 004).

-- ---------------------------------------------------------------------------------------------------- personas

-- Until now owner_id pointed nowhere. One without its user in the tenant goes: the persona is the tenant's own from here on.
UPDATE assistants.personas p SET owner_id = NULL
WHERE owner_id IS NOT NULL AND NOT EXISTS (SELECT FROM identity.users u WHERE (u.id, u.tenant_id) = (p.owner_id, p.tenant_id));
ALTER TABLE assistants.personas ADD CONSTRAINT personas_owner_id_tenant_id_fkey
    FOREIGN KEY (owner_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE;
COMMENT ON TABLE assistants.personas IS 'A character that answers through a language model, with the settings that its agents share.';
COMMENT ON COLUMN assistants.personas.external_id IS 'The product''s own key';
COMMENT ON COLUMN assistants.personas.owner_id IS 'None: the tenant''s own';
COMMENT ON COLUMN assistants.personas.fallback_providers IS 'Names of providers, in the order to try';
COMMENT ON COLUMN assistants.personas.container_id IS 'The container that the persona runs in, while it runs';

CREATE TABLE assistants.persona_members (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text DEFAULT 'editor' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_members_pkey PRIMARY KEY (id),
    CONSTRAINT persona_members_persona_id_user_id_key UNIQUE (persona_id, user_id),
    CONSTRAINT persona_members_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_members_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_members_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_members_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_members_role_check CHECK (role IN ('editor', 'viewer'))
);
CREATE INDEX persona_members_tenant_id_idx ON assistants.persona_members (tenant_id);
CREATE INDEX persona_members_persona_id_idx ON assistants.persona_members (persona_id);
CREATE INDEX persona_members_user_id_idx ON assistants.persona_members (user_id);
COMMENT ON TABLE assistants.persona_members IS 'A user with whom a persona''s owner shares it.';

CREATE TABLE assistants.voice_personas (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    user_id uuid NOT NULL,
    name text NOT NULL,
    role text,
    voice_id text,
    youtube_url text NOT NULL,
    language text DEFAULT 'en' NOT NULL,
    status text DEFAULT 'pending' NOT NULL,
    error_message text,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT voice_personas_pkey PRIMARY KEY (id),
    CONSTRAINT voice_personas_user_id_youtube_url_key UNIQUE (user_id, youtube_url),
    CONSTRAINT voice_personas_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT voice_personas_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT voice_personas_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT voice_personas_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT voice_personas_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT voice_personas_role_check CHECK (length(role) <= 255),
    CONSTRAINT voice_personas_voice_id_check CHECK (length(voice_id) <= 255),
    CONSTRAINT voice_personas_youtube_url_check CHECK (length(youtube_url) BETWEEN 1 AND 2000),
    CONSTRAINT voice_personas_language_check CHECK (length(language) BETWEEN 2 AND 10),
    CONSTRAINT voice_personas_status_check CHECK (status IN ('pending', 'processing', 'active', 'failed'))
);
CREATE INDEX voice_personas_active_idx ON assistants.voice_personas (user_id, status) WHERE status = 'active';
CREATE UNIQUE INDEX voice_personas_external_id_key ON assistants.voice_personas (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX voice_personas_status_idx ON assistants.voice_personas (tenant_id, status);
CREATE INDEX voice_personas_user_id_idx ON assistants.voice_personas (user_id);
COMMENT ON TABLE assistants.voice_personas IS 'A persona that is cloned from the voice in a video (003''s personas); only its user sees it.';
COMMENT ON COLUMN assistants.voice_personas.external_id IS 'The product''s own key';
COMMENT ON COLUMN assistants.voice_personas.role IS 'Job title or role, as in ''Founder''';
COMMENT ON COLUMN assistants.voice_personas.voice_id IS 'The speech provider''s key; none until the voice is cloned';
COMMENT ON COLUMN assistants.voice_personas.youtube_url IS 'The video; a user clones it once';
COMMENT ON COLUMN assistants.voice_personas.language IS 'ISO 639-1';
COMMENT ON COLUMN assistants.voice_personas.error_message IS 'Why, where status is failed';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.voice_personas FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE assistants.persona_profiles (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    auto_extracted jsonb DEFAULT '{}' NOT NULL,
    manual_overrides jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_profiles_pkey PRIMARY KEY (id),
    CONSTRAINT persona_profiles_persona_id_key UNIQUE (persona_id),
    CONSTRAINT persona_profiles_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_profiles_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_profiles_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.voice_personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_profiles_auto_extracted_check CHECK (jsonb_typeof(auto_extracted) = 'object'),
    CONSTRAINT persona_profiles_manual_overrides_check CHECK (jsonb_typeof(manual_overrides) = 'object')
);
CREATE INDEX persona_profiles_tenant_id_idx ON assistants.persona_profiles (tenant_id);
CREATE INDEX persona_profiles_auto_extracted_idx ON assistants.persona_profiles USING gin (auto_extracted);
CREATE INDEX persona_profiles_manual_overrides_idx ON assistants.persona_profiles USING gin (manual_overrides);
CREATE INDEX persona_profiles_persona_id_idx ON assistants.persona_profiles (persona_id);
COMMENT ON TABLE assistants.persona_profiles IS 'How a voice persona speaks: what a model found in its transcript, and what its user put in its place.';
COMMENT ON COLUMN assistants.persona_profiles.manual_overrides IS 'Goes before what is extracted';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.persona_profiles FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- agents

CREATE TABLE assistants.agents (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid,
    name text NOT NULL,
    slug text,
    description text,
    system_prompt text,
    system_prompt_override text,
    model_provider text,
    preferred_provider text,
    model_name text,
    temperature double precision,
    max_tokens integer,
    capabilities jsonb DEFAULT '[]' NOT NULL,
    tools jsonb DEFAULT '[]' NOT NULL,
    tool_permissions jsonb,
    timeout_seconds integer,
    max_iterations integer,
    memory_enabled boolean DEFAULT false NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED NOT NULL,
    version text DEFAULT '1.0.0' NOT NULL,
    tags jsonb DEFAULT '[]' NOT NULL,
    config jsonb DEFAULT '{}' NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT agents_pkey PRIMARY KEY (id),
    CONSTRAINT agents_kind_check CHECK (persona_id IS NOT NULL OR slug IS NOT NULL),
    CONSTRAINT agents_override_check CHECK (persona_id IS NOT NULL OR num_nonnulls(system_prompt_override, preferred_provider) = 0),
    CONSTRAINT agents_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT agents_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT agents_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT agents_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT agents_slug_check CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) <= 100),
    CONSTRAINT agents_system_prompt_check CHECK (system_prompt <> ''),
    CONSTRAINT agents_model_provider_check CHECK (length(model_provider) BETWEEN 1 AND 50),
    CONSTRAINT agents_preferred_provider_check CHECK (length(preferred_provider) <= 50),
    CONSTRAINT agents_model_name_check CHECK (length(model_name) BETWEEN 1 AND 255),
    CONSTRAINT agents_temperature_check CHECK (temperature BETWEEN 0 AND 2),
    CONSTRAINT agents_max_tokens_check CHECK (max_tokens > 0),
    CONSTRAINT agents_capabilities_check CHECK (jsonb_typeof(capabilities) = 'array'),
    CONSTRAINT agents_tools_check CHECK (jsonb_typeof(tools) = 'array'),
    CONSTRAINT agents_tool_permissions_check CHECK (jsonb_typeof(tool_permissions) = 'array'),
    CONSTRAINT agents_timeout_seconds_check CHECK (timeout_seconds > 0),
    CONSTRAINT agents_max_iterations_check CHECK (max_iterations > 0),
    CONSTRAINT agents_status_check CHECK (status IN ('active', 'inactive', 'archived')),
    CONSTRAINT agents_version_check CHECK (length(version) BETWEEN 1 AND 50),
    CONSTRAINT agents_tags_check CHECK (jsonb_typeof(tags) = 'array')
);
CREATE INDEX agents_active_idx ON assistants.agents (tenant_id, status) WHERE deleted_at IS NULL;
CREATE INDEX agents_persona_id_idx ON assistants.agents (persona_id);
CREATE UNIQUE INDEX agents_slug_key ON assistants.agents (tenant_id, slug) WHERE deleted_at IS NULL;
CREATE INDEX agents_status_idx ON assistants.agents (tenant_id, status);
COMMENT ON TABLE assistants.agents IS 'What works on tasks through a language model with tools: one of a persona, or one known by its slug.';
COMMENT ON COLUMN assistants.agents.persona_id IS 'None: stands alone';
COMMENT ON COLUMN assistants.agents.slug IS 'Unique in the tenant among agents that are not deleted';
COMMENT ON COLUMN assistants.agents.system_prompt_override IS 'In place of the persona''s';
COMMENT ON COLUMN assistants.agents.preferred_provider IS 'In place of the persona''s default_provider';
COMMENT ON COLUMN assistants.agents.tools IS 'Names of tools';
COMMENT ON COLUMN assistants.agents.tool_permissions IS 'Keys of tools, in place of the persona''s; none: the persona''s stand';
COMMENT ON COLUMN assistants.agents.is_active IS 'What status says';
COMMENT ON COLUMN assistants.agents.version IS 'As its makers count; no lock';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.agents FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- conversations

CREATE TABLE assistants.clients (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    user_id uuid NOT NULL,
    name text NOT NULL,
    email text,
    telegram_id text,
    phone text,
    notes text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    last_contact timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT clients_pkey PRIMARY KEY (id),
    CONSTRAINT clients_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT clients_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT clients_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT clients_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT clients_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT clients_email_check CHECK (email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$' AND length(email) <= 255),
    CONSTRAINT clients_telegram_id_check CHECK (length(telegram_id) BETWEEN 1 AND 255),
    CONSTRAINT clients_phone_check CHECK (length(phone) <= 50)
);
CREATE INDEX clients_email_idx ON assistants.clients (tenant_id, email);
CREATE UNIQUE INDEX clients_external_id_key ON assistants.clients (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX clients_telegram_id_idx ON assistants.clients (tenant_id, telegram_id);
CREATE INDEX clients_user_id_idx ON assistants.clients (user_id);
CREATE UNIQUE INDEX clients_user_telegram_key ON assistants.clients (user_id, telegram_id) WHERE telegram_id IS NOT NULL;
COMMENT ON TABLE assistants.clients IS 'A customer of a user''s, to whom that user''s voice personas talk.';
COMMENT ON COLUMN assistants.clients.external_id IS 'The product''s own key';
COMMENT ON COLUMN assistants.clients.telegram_id IS 'One client of a user for each';
COMMENT ON COLUMN assistants.clients.metadata IS 'Company, role, tags';
COMMENT ON COLUMN assistants.clients.last_contact IS 'Start of the last conversation; kept by trigger';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.clients FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE assistants.conversations (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    persona_id uuid,
    agent_id uuid,
    client_id uuid,
    user_id uuid,
    channel text,
    title text,
    summary text,
    status text DEFAULT 'active' NOT NULL,
    context jsonb DEFAULT '{}' NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    message_count integer DEFAULT 0 NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT conversations_pkey PRIMARY KEY (id),
    CONSTRAINT conversations_kind_check CHECK (num_nonnulls(persona_id, agent_id) = 1),
    CONSTRAINT conversations_persona_channel_check CHECK (persona_id IS NULL OR channel IS NOT NULL),
    CONSTRAINT conversations_end_check CHECK ((status = 'active') = (ended_at IS NULL)),
    CONSTRAINT conversations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT conversations_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT conversations_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT conversations_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.voice_personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT conversations_agent_id_tenant_id_fkey FOREIGN KEY (agent_id, tenant_id) REFERENCES assistants.agents (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT conversations_client_id_tenant_id_fkey FOREIGN KEY (client_id, tenant_id) REFERENCES assistants.clients (id, tenant_id) ON DELETE SET NULL (client_id),
    CONSTRAINT conversations_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT conversations_channel_check CHECK (channel IN ('telegram', 'email', 'whatsapp')),
    CONSTRAINT conversations_title_check CHECK (length(title) <= 500),
    CONSTRAINT conversations_status_check CHECK (status IN ('active', 'completed', 'failed', 'cancelled')),
    CONSTRAINT conversations_message_count_check CHECK (message_count >= 0),
    CONSTRAINT conversations_ended_at_check CHECK (ended_at >= started_at),
    CONSTRAINT conversations_completed_at_check CHECK (completed_at >= started_at)
);
CREATE INDEX conversations_active_idx ON assistants.conversations (persona_id) WHERE ended_at IS NULL;
CREATE INDEX conversations_agent_id_idx ON assistants.conversations (agent_id);
CREATE INDEX conversations_channel_idx ON assistants.conversations (tenant_id, channel);
CREATE INDEX conversations_client_id_idx ON assistants.conversations (client_id);
CREATE UNIQUE INDEX conversations_external_id_key ON assistants.conversations (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX conversations_persona_id_idx ON assistants.conversations (persona_id);
CREATE INDEX conversations_persona_recent_idx ON assistants.conversations (persona_id, started_at DESC);
CREATE INDEX conversations_recent_idx ON assistants.conversations (tenant_id, started_at DESC);
CREATE INDEX conversations_status_idx ON assistants.conversations (tenant_id, status);
CREATE INDEX conversations_user_id_idx ON assistants.conversations (user_id);
COMMENT ON TABLE assistants.conversations IS 'A talk with a voice persona or with an agent; a trigger keeps status and ended_at agreed.';
COMMENT ON COLUMN assistants.conversations.external_id IS 'The product''s own key';
COMMENT ON COLUMN assistants.conversations.persona_id IS 'Who answers, unless an agent';
COMMENT ON COLUMN assistants.conversations.agent_id IS 'Who answers, unless a voice persona';
COMMENT ON COLUMN assistants.conversations.user_id IS 'Who talks, unless a client';
COMMENT ON COLUMN assistants.conversations.channel IS 'None where an agent is talked to in the product itself';
COMMENT ON COLUMN assistants.conversations.metadata IS 'What belongs to the channel';
COMMENT ON COLUMN assistants.conversations.message_count IS 'Kept by trigger on messages';
COMMENT ON COLUMN assistants.conversations.ended_at IS 'When it ended in any way; none: goes on';
COMMENT ON COLUMN assistants.conversations.completed_at IS 'When it was completed';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.conversations FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- A unique key would have to hold created_at: external_id (003's key) has a plain index.
CREATE TABLE assistants.messages (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    conversation_id uuid NOT NULL,
    sequence_number integer,
    role text NOT NULL,
    sender text,
    content text,
    audio_url text,
    rag_context jsonb,
    tool_calls jsonb DEFAULT '[]' NOT NULL,
    tool_results jsonb DEFAULT '[]' NOT NULL,
    model_used text,
    token_count integer,
    tokens_used jsonb,
    latency_ms integer,
    processing_time_ms integer,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (id, created_at),
    CONSTRAINT messages_speaker_check CHECK (sender IS NOT DISTINCT FROM CASE WHEN role = 'user' THEN 'user' WHEN role IN ('assistant', 'persona') THEN 'persona' END),
    CONSTRAINT messages_said_check CHECK (content IS NOT NULL OR tool_calls <> '[]' OR tool_results <> '[]'),
    CONSTRAINT messages_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT messages_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT messages_conversation_id_tenant_id_fkey FOREIGN KEY (conversation_id, tenant_id) REFERENCES assistants.conversations (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT messages_sequence_number_check CHECK (sequence_number >= 0),
    CONSTRAINT messages_role_check CHECK (role IN ('user', 'assistant', 'system', 'tool', 'persona')),
    CONSTRAINT messages_sender_check CHECK (sender IN ('user', 'persona')),
    CONSTRAINT messages_tool_calls_check CHECK (jsonb_typeof(tool_calls) = 'array'),
    CONSTRAINT messages_tool_results_check CHECK (jsonb_typeof(tool_results) = 'array'),
    CONSTRAINT messages_model_used_check CHECK (length(model_used) <= 255),
    CONSTRAINT messages_token_count_check CHECK (token_count >= 0),
    CONSTRAINT messages_latency_ms_check CHECK (latency_ms >= 0),
    CONSTRAINT messages_processing_time_ms_check CHECK (processing_time_ms >= 0)
) PARTITION BY RANGE (created_at);
CREATE INDEX messages_conversation_id_idx ON assistants.messages (conversation_id);
CREATE INDEX messages_created_at_idx ON assistants.messages (tenant_id, created_at DESC);
CREATE INDEX messages_external_id_idx ON assistants.messages (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX messages_sequence_idx ON assistants.messages (conversation_id, sequence_number);
COMMENT ON TABLE assistants.messages IS 'One message of a conversation. Parted by months of created_at, so the product''s own key is not held unique.';
COMMENT ON COLUMN assistants.messages.external_id IS 'The product''s own key';
COMMENT ON COLUMN assistants.messages.sequence_number IS 'Order within the conversation';
COMMENT ON COLUMN assistants.messages.sender IS 'What role says of two sides; a trigger fills either from the other';
COMMENT ON COLUMN assistants.messages.content IS 'None where a model calls tools and says nothing';
COMMENT ON COLUMN assistants.messages.audio_url IS 'The content as speech';
COMMENT ON COLUMN assistants.messages.rag_context IS 'What retrieval found for the answer';
COMMENT ON COLUMN assistants.messages.tokens_used IS 'Tokens as prompt, completion, total';
COMMENT ON COLUMN assistants.messages.latency_ms IS 'Milliseconds that the model took';
COMMENT ON COLUMN assistants.messages.processing_time_ms IS 'Milliseconds from question to answer, retrieval and speech included';

-- ---------------------------------------------------------------------------------------------------- runs

CREATE TABLE assistants.runs (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    user_id uuid NOT NULL,
    trace_id text NOT NULL,
    status text DEFAULT 'pending' NOT NULL,
    input text NOT NULL,
    output text,
    error_message text,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT runs_pkey PRIMARY KEY (id),
    CONSTRAINT runs_trace_id_key UNIQUE (trace_id),
    CONSTRAINT runs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT runs_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT runs_agent_id_tenant_id_fkey FOREIGN KEY (agent_id, tenant_id) REFERENCES assistants.agents (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT runs_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT runs_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT runs_trace_id_check CHECK (trace_id ~ '^run-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'),
    CONSTRAINT runs_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT runs_completed_at_check CHECK (completed_at >= started_at)
);
CREATE INDEX runs_agent_id_idx ON assistants.runs (agent_id);
CREATE INDEX runs_created_at_idx ON assistants.runs (tenant_id, created_at);
CREATE INDEX runs_persona_id_idx ON assistants.runs (persona_id);
CREATE INDEX runs_status_idx ON assistants.runs (tenant_id, status);
CREATE INDEX runs_user_id_idx ON assistants.runs (user_id);
COMMENT ON TABLE assistants.runs IS 'An agent at work on one task of a user''s.';
COMMENT ON COLUMN assistants.runs.user_id IS 'Who asked for it';
COMMENT ON COLUMN assistants.runs.trace_id IS 'What its spans and log lines carry: run- and a UUID';
COMMENT ON COLUMN assistants.runs.input IS 'The task, as the user wrote it';
COMMENT ON COLUMN assistants.runs.completed_at IS 'When it ended in any way';

CREATE TABLE assistants.run_steps (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_number integer NOT NULL,
    step_type text NOT NULL,
    tool_id uuid,
    input jsonb,
    output jsonb,
    duration_ms integer,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT run_steps_pkey PRIMARY KEY (id),
    CONSTRAINT run_steps_tool_call_check CHECK (tool_id IS NULL OR step_type = 'tool_call'),
    CONSTRAINT run_steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT run_steps_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT run_steps_run_id_tenant_id_fkey FOREIGN KEY (run_id, tenant_id) REFERENCES assistants.runs (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT run_steps_step_number_check CHECK (step_number >= 0),
    CONSTRAINT run_steps_step_type_check CHECK (step_type IN ('llm_call', 'tool_call', 'rag_retrieval', 'error')),
    CONSTRAINT run_steps_duration_ms_check CHECK (duration_ms >= 0)
);
CREATE INDEX run_steps_tenant_id_idx ON assistants.run_steps (tenant_id);
CREATE INDEX run_steps_run_id_idx ON assistants.run_steps (run_id);
CREATE INDEX run_steps_run_id_step_number_idx ON assistants.run_steps (run_id, step_number);
CREATE INDEX run_steps_tool_id_idx ON assistants.run_steps (tool_id);
COMMENT ON TABLE assistants.run_steps IS 'One step of a run: a call of a model or of a tool, a retrieval, an error.';
COMMENT ON COLUMN assistants.run_steps.step_number IS 'Order within the run';
COMMENT ON COLUMN assistants.run_steps.tool_id IS 'Of a tool call';
COMMENT ON COLUMN assistants.run_steps.input IS 'Prompt or parameters';
COMMENT ON COLUMN assistants.run_steps.output IS 'Answer or result';
COMMENT ON COLUMN assistants.run_steps.duration_ms IS 'Milliseconds';

-- ---------------------------------------------------------------------------------------------------- workflows

CREATE TABLE assistants.workflows (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    description text,
    definition jsonb NOT NULL,
    agent_ids jsonb DEFAULT '[]' NOT NULL,
    timeout_seconds integer,
    retry_config jsonb DEFAULT '{}' NOT NULL,
    status text DEFAULT 'active' NOT NULL,
    version text DEFAULT '1.0.0' NOT NULL,
    tags jsonb DEFAULT '[]' NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT workflows_pkey PRIMARY KEY (id),
    CONSTRAINT workflows_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT workflows_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT workflows_name_check CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT workflows_slug_check CHECK (slug ~ '^[a-z0-9](-?[a-z0-9])*$' AND length(slug) <= 100),
    CONSTRAINT workflows_definition_check CHECK (jsonb_typeof(definition) IN ('object', 'array')),
    CONSTRAINT workflows_agent_ids_check CHECK (jsonb_typeof(agent_ids) = 'array'),
    CONSTRAINT workflows_timeout_seconds_check CHECK (timeout_seconds > 0),
    CONSTRAINT workflows_retry_config_check CHECK (jsonb_typeof(retry_config) = 'object'),
    CONSTRAINT workflows_status_check CHECK (status IN ('active', 'inactive', 'archived')),
    CONSTRAINT workflows_version_check CHECK (length(version) BETWEEN 1 AND 50),
    CONSTRAINT workflows_tags_check CHECK (jsonb_typeof(tags) = 'array')
);
CREATE UNIQUE INDEX workflows_slug_key ON assistants.workflows (tenant_id, slug) WHERE deleted_at IS NULL;
CREATE INDEX workflows_status_idx ON assistants.workflows (tenant_id, status);
COMMENT ON TABLE assistants.workflows IS 'A plan in which several agents work together, as steps or as a graph of them.';
COMMENT ON COLUMN assistants.workflows.slug IS 'Unique in the tenant among workflows that are not deleted';
COMMENT ON COLUMN assistants.workflows.definition IS 'A graph as an object, or an array of steps';
COMMENT ON COLUMN assistants.workflows.agent_ids IS 'Keys of the agents that take part';
COMMENT ON COLUMN assistants.workflows.version IS 'As its makers count; no lock';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.workflows FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE assistants.workflow_executions (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    user_id uuid,
    status text DEFAULT 'running' NOT NULL,
    current_step text,
    input jsonb DEFAULT '{}' NOT NULL,
    output jsonb,
    error_message text,
    steps_completed integer DEFAULT 0 NOT NULL,
    steps_total integer,
    metadata jsonb DEFAULT '{}' NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT workflow_executions_pkey PRIMARY KEY (id),
    CONSTRAINT workflow_executions_progress_check CHECK (steps_completed <= steps_total),
    CONSTRAINT workflow_executions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT workflow_executions_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT workflow_executions_workflow_id_tenant_id_fkey FOREIGN KEY (workflow_id, tenant_id) REFERENCES assistants.workflows (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT workflow_executions_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (user_id),
    CONSTRAINT workflow_executions_status_check CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT workflow_executions_current_step_check CHECK (length(current_step) <= 255),
    CONSTRAINT workflow_executions_steps_completed_check CHECK (steps_completed >= 0),
    CONSTRAINT workflow_executions_steps_total_check CHECK (steps_total >= 0),
    CONSTRAINT workflow_executions_completed_at_check CHECK (completed_at >= started_at)
);
CREATE INDEX workflow_executions_recent_idx ON assistants.workflow_executions (tenant_id, started_at DESC);
CREATE INDEX workflow_executions_status_idx ON assistants.workflow_executions (tenant_id, status);
CREATE INDEX workflow_executions_user_id_idx ON assistants.workflow_executions (user_id);
CREATE INDEX workflow_executions_workflow_id_idx ON assistants.workflow_executions (workflow_id);
COMMENT ON TABLE assistants.workflow_executions IS 'One execution of a workflow.';
COMMENT ON COLUMN assistants.workflow_executions.user_id IS 'Who started it';
COMMENT ON COLUMN assistants.workflow_executions.current_step IS 'The step at work, by its name in the definition';
COMMENT ON COLUMN assistants.workflow_executions.steps_total IS 'None: not known beforehand';
COMMENT ON COLUMN assistants.workflow_executions.completed_at IS 'When it ended in any way';
CREATE TRIGGER touch BEFORE UPDATE ON assistants.workflow_executions FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

-- ---------------------------------------------------------------------------------------------------- triggers

-- A conversation ends by its status (004) or by ended_at (003): each follows the other, and so it is taken up again.
CREATE FUNCTION assistants.settle_conversation() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status <> 'active' AND (NEW.status = 'active' OR NEW.ended_at IS NULL) THEN
        NEW.status := 'active';
        NEW.ended_at := NULL;
        NEW.completed_at := NULL;
    ELSIF NEW.status = 'active' AND num_nonnulls(NEW.ended_at, NEW.completed_at) > 0 THEN
        NEW.status := 'completed';
    END IF;
    IF NEW.status <> 'active' THEN
        NEW.ended_at := COALESCE(NEW.ended_at, NEW.completed_at, GREATEST(now(), NEW.started_at));
    END IF;
    IF NEW.status = 'completed' THEN
        NEW.completed_at := COALESCE(NEW.completed_at, NEW.ended_at);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER settle BEFORE INSERT OR UPDATE OF status, ended_at, completed_at ON assistants.conversations
    FOR EACH ROW EXECUTE FUNCTION assistants.settle_conversation();

-- Owns clients.last_contact (003): the start of the client's last conversation.
CREATE FUNCTION assistants.note_contact() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.clients SET last_contact = NEW.started_at
    WHERE id = NEW.client_id AND tenant_id = NEW.tenant_id AND (last_contact IS NULL OR last_contact < NEW.started_at);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_contact AFTER INSERT OR UPDATE OF client_id, started_at ON assistants.conversations
    FOR EACH ROW WHEN (NEW.client_id IS NOT NULL) EXECUTE FUNCTION assistants.note_contact();

-- 003 writes a message's sender, 004 its role: whichever is missing follows from the other.
CREATE FUNCTION assistants.name_speaker() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.role := COALESCE(NEW.role, NEW.sender);
    IF NEW.sender IS NULL AND NEW.role IN ('user', 'assistant', 'persona') THEN
        NEW.sender := CASE NEW.role WHEN 'user' THEN 'user' ELSE 'persona' END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER name_speaker BEFORE INSERT ON assistants.messages FOR EACH ROW EXECUTE FUNCTION assistants.name_speaker();

-- Owns conversations.message_count (003); one update a conversation and statement. A dropped partition leaves the count as it is.
CREATE FUNCTION assistants.count_messages() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE TG_OP WHEN 'INSERT' THEN changed.messages ELSE -changed.messages END, 0)
    FROM (SELECT conversation_id, tenant_id, count(*)::integer AS messages FROM changes GROUP BY 1, 2) AS changed
    WHERE c.id = changed.conversation_id AND c.tenant_id = changed.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_added AFTER INSERT ON assistants.messages REFERENCING NEW TABLE AS changes
    FOR EACH STATEMENT EXECUTE FUNCTION assistants.count_messages();
CREATE TRIGGER count_removed AFTER DELETE ON assistants.messages REFERENCING OLD TABLE AS changes
    FOR EACH STATEMENT EXECUTE FUNCTION assistants.count_messages();

-- And a message that moves to another conversation is counted there: by row, so that no other update of a message pays for it.
CREATE FUNCTION assistants.count_moved() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE assistants.conversations c
    SET message_count = GREATEST(c.message_count + CASE c.id WHEN NEW.conversation_id THEN 1 ELSE -1 END, 0)
    WHERE c.id IN (OLD.conversation_id, NEW.conversation_id) AND c.tenant_id = NEW.tenant_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_moved AFTER UPDATE OF conversation_id ON assistants.messages FOR EACH ROW
    WHEN (OLD.conversation_id <> NEW.conversation_id) EXECUTE FUNCTION assistants.count_moved();

-- ---------------------------------------------------------------------------------------------------- functions and views

-- Lay one JSON value over another: objects are merged member by member at any depth, of everything else the upper one stands.
CREATE FUNCTION assistants.merge_profile(lower jsonb, upper jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(lower) IS DISTINCT FROM 'object' OR jsonb_typeof(upper) IS DISTINCT FROM 'object' THEN
        RETURN COALESCE(upper, lower);
    END IF;
    RETURN lower || COALESCE((SELECT jsonb_object_agg(key, assistants.merge_profile(lower -> key, value)) FROM jsonb_each(upper)), '{}');
END
$$;

-- How a voice persona is to speak: its manual overrides over what was extracted (003); NULL for one that the caller does not see.
CREATE FUNCTION assistants.effective_profile(persona uuid) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT assistants.merge_profile(COALESCE(f.auto_extracted, '{}'), COALESCE(f.manual_overrides, '{}'))
    FROM assistants.voice_personas p LEFT JOIN assistants.persona_profiles f ON f.persona_id = p.id AND f.tenant_id = p.tenant_id
    WHERE p.id = persona
$$;

CREATE VIEW assistants.persona_activity WITH (security_invoker = true) AS
SELECT p.tenant_id, p.user_id, p.id AS persona_id, p.name, count(c.id) AS conversation_count,
    COALESCE(sum(c.message_count), 0) AS message_count, max(c.started_at) AS last_started_at
FROM assistants.voice_personas p
LEFT JOIN assistants.conversations c ON c.persona_id = p.id AND c.tenant_id = p.tenant_id AND c.deleted_at IS NULL
GROUP BY p.id;
COMMENT ON VIEW assistants.persona_activity IS 'How much each voice persona talked; most active first by conversation_count (003).';

CREATE VIEW assistants.response_times WITH (security_invoker = true) AS
SELECT tenant_id, count(*) AS response_count, avg(processing_time_ms) AS avg_time_ms,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY processing_time_ms) AS median_time_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY processing_time_ms) AS p95_time_ms
FROM assistants.messages
WHERE sender = 'persona' AND processing_time_ms IS NOT NULL AND created_at > now() - interval '7 days'
GROUP BY tenant_id;
COMMENT ON VIEW assistants.response_times IS 'How long answers took in the last seven days, a row a tenant (003).';

-- ---------------------------------------------------------------------------------------------------- row security and grants

SELECT ops.create_months();
SELECT ops.bind_to_tenant('assistants.persona_members', 'assistants.voice_personas', 'assistants.persona_profiles', 'assistants.agents',
    'assistants.clients', 'assistants.conversations', 'assistants.messages', 'assistants.runs', 'assistants.run_steps',
    'assistants.workflows', 'assistants.workflow_executions');
SELECT ops.bind_to_user('assistants.voice_personas');
SELECT ops.bind_to_user('assistants.persona_profiles', 'EXISTS (SELECT FROM assistants.voice_personas p '
    'WHERE p.id = persona_profiles.persona_id AND p.user_id = (SELECT identity.current_user_id()))');
GRANT SELECT ON assistants.persona_activity, assistants.response_times
    TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
