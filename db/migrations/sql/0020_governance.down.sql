-- Agents go, and what was decided about them.

DROP VIEW governance.user_activity_summary, governance.active_agent_sessions;
DROP TABLE governance.validation_results, governance.governance_events, governance.agent_interactions, governance.persona_activations,
    governance.agent_sessions, governance.personas;
DROP FUNCTION governance.copy_session, governance.check_approval;
DROP SCHEMA governance;
