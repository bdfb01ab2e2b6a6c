-- Nobody is measured but by hand, as before.

DROP INDEX assistants.runs_persona_id_completed_at_idx, billing.usage_metrics_agent_id_recorded_at_idx;
DROP TABLE ops.health_thresholds, ops.persona_health_states;
ALTER TABLE assistants.personas DROP COLUMN host, DROP COLUMN process_id, DROP COLUMN process_started_at;
