-- Back to personas alone. What was said and run goes; owner_id stays as it is, without its foreign key.

DROP VIEW assistants.response_times, assistants.persona_activity;
DROP FUNCTION assistants.effective_profile, assistants.merge_profile;
DROP TABLE assistants.workflow_executions, assistants.workflows, assistants.run_steps, assistants.runs, assistants.messages,
    assistants.conversations, assistants.clients, assistants.agents, assistants.persona_profiles, assistants.voice_personas,
    assistants.persona_members;
DROP FUNCTION assistants.settle_conversation, assistants.note_contact, assistants.name_speaker, assistants.count_messages,
    assistants.count_moved;
ALTER TABLE assistants.personas DROP CONSTRAINT personas_owner_id_tenant_id_fkey;
COMMENT ON TABLE assistants.personas IS NULL;
COMMENT ON COLUMN assistants.personas.external_id IS NULL;
COMMENT ON COLUMN assistants.personas.owner_id IS NULL;
COMMENT ON COLUMN assistants.personas.fallback_providers IS NULL;
COMMENT ON COLUMN assistants.personas.container_id IS NULL;
