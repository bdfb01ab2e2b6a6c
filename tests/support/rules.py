"""What breaks a rule of the data model where the rule's text does not give it away."""

from psycopg import sql

from tests.support.factory import Row

_ID = "00000000-0000-7000-8000-000000000009"
_EARLY = "1999-01-01"
_LATE = "2999-01-01"
_SENT = {"direction": "outbound", "status": "sent"}
_NO_IMAP = dict.fromkeys(f"imap_{name}" for name in ("host", "port", "security", "login", "username", "secret_id"))

# By the check's name, values for a row that breaks it and no check that Postgres tries before it: they go by name.
BREAKS: dict[str, Row] = {
    "active_is_kept": {"is_active": True, "is_dropped": True},
    "agent_sessions_completed_at_check": {"started_at": "2000-01-01", "completed_at": _EARLY},
    "agents_kind_check": {"slug": None},
    "agents_override_check": {"system_prompt_override": "x"},
    "agents_preferred_provider_check": {"persona_id": _ID, "preferred_provider": "x" * 51},
    "api_keys_revoked_at_check": {"status": "revoked"},
    "backups_archived_at_check": {"archived_at": "2026-01-01"},
    "backups_base_id_is_another_check": {"id": _ID, "base_id": _ID},
    "backups_checksum_check": {"checksum": "x"},
    "backups_completed_at_check": {"completed_at": _EARLY},
    "backups_expires_at_check": {"expires_at": _EARLY},
    "backups_kind_has_base_check": {"kind": "incremental"},
    "backups_status_is_whole_check": {"status": "completed"},
    "backups_status_says_why_check": {"status": "failed"},
    "backups_verified_at_check": {"completed_at": _LATE, "verified_at": _EARLY},
    "backups_wal_end_check": {"wal_end": "x"},
    "backups_wal_start_check": {"wal_start": "x"},
    "billing_records_currency_check": {"currency": "usd"},
    "billing_records_due_at_check": {"issued_at": "2026-01-02", "due_at": "2026-01-01"},
    "billing_records_issued_at_check": {"status": "open"},
    "billing_records_paid_at_check": {"paid_at": "2026-01-01"},
    "billing_records_period_end_check": {"period_end": _EARLY},
    "chunks_check": {"start_offset": 1, "end_offset": 1},
    "chunks_sources_check": {"source_chunk_ids": [_ID]},
    "collections_check": {"chunk_size": 16, "chunk_overlap": 9},
    "collections_chunk_size_check": {"chunk_size": 15, "chunk_overlap": 0},
    "conversations_completed_at_check": {"status": "completed", "ended_at": _LATE, "completed_at": _EARLY},
    "conversations_end_check": {"ended_at": _LATE},
    "conversations_ended_at_check": {"status": "failed", "ended_at": _EARLY},
    "conversations_kind_check": {"agent_id": None},
    "conversations_persona_channel_check": {"persona_id": _ID, "channel": None},
    "cross_region_sync_logs_completed_at_check": {"completed_at": _EARLY},
    "documents_check": {"current_version": 1},
    "emails_direction_status_check": {"direction": "inbound", "status": "queued"},
    "emails_identified_check": _SENT | {"sent_at": "2026-01-01"},
    "emails_marked_check": {"direction": "outbound", "status": "sending", "message_id": "<a@b>"},
    "emails_place_check": {"folder": "INBOX"},
    "emails_sent_check": _SENT | {"message_id": "<a@b>"},
    "emails_status_check": {"direction": "outbound", "status": "no such value"},
    "emails_uid_check": {"folder": "INBOX", "uidvalidity": 1, "uid": 0},
    "emails_uidvalidity_check": {"folder": "INBOX", "uidvalidity": 0, "uid": 1},
    "mailboxes_imap_check": {"imap_secret_id": None},
    "mailboxes_imap_loopback_check": {"imap_security": "none"},
    "mailboxes_side_check": _NO_IMAP,
    "mailboxes_smtp_check": {"smtp_secret_id": None},
    "mailboxes_smtp_loopback_check": {"smtp_security": "none"},
    "mapper_configs_version_check": {"version": -1},
    "mcp_servers_command_check": {"server_type": "stdio"},
    "mcp_servers_owner_check": {"tenant_id": None},
    "mcp_tool_executions_completed_at_check": {"completed_at": _EARLY},
    "mcp_tool_executions_error_check": {"status": "success", "error_message": "x"},
    "mcp_tool_executions_message_check": {"message_id": _ID},
    "messages_said_check": {"content": None},
    "messages_speaker_check": {"role": "user", "sender": "persona"},
    "narratives_tags_check": {"tags": ["x" * 2001]},
    "persona_activations_deactivated_at_check": {"deactivated_at": _EARLY},
    "persona_profiles_auto_extracted_check": {"auto_extracted": []},
    "persona_profiles_manual_overrides_check": {"manual_overrides": []},
    "persona_health_hourly_hour_check": {"hour": "2026-01-01 00:00:01+00"},
    "personas_expired_at_check": {"expired_at": _EARLY},
    "rag_queries_result_scores_check": {"result_scores": "{NaN}"},
    "rag_queries_top_score_check": {"strategy": "vector", "top_score": 2},
    "retention_policies_age_check": {"age": "0"},
    "retention_policies_age_column_check": {"age_column": "No"},
    "retention_policies_hold_reason_if_held_check": {"is_held": True},
    "retention_policies_partition_is_whole_check": {"action": "drop_partition", "filter": {"id": "x"}},
    "retention_policies_persona_has_tenant_check": {"persona_id": _ID, "tenant_id": None},
    "retention_policies_table_name_check": {"table_name": "No"},
    "retention_policies_table_schema_check": {"table_schema": "No"},
    "retention_runs_ended_at_check": {"status": "completed", "ended_at": _EARLY},
    "retention_runs_manifest_checksum_check": {"manifest_checksum": "x"},
    "retention_runs_status_says_when_check": {"status": "completed"},
    "retention_runs_status_says_why_check": {"status": "failed", "ended_at": _LATE},
    "retention_runs_table_name_check": {"table_name": "No"},
    "retention_runs_table_schema_check": {"table_schema": "No"},
    "run_steps_tool_call_check": {"tool_id": _ID, "step_type": "llm_call"},
    "runs_completed_at_check": {"started_at": "2000-01-01", "completed_at": _EARLY},
    "runs_trace_id_check": {"trace_id": "x"},
    "subscription_plans_currency_check": {"currency": "usd"},
    "tool_dependencies_itself_check": {"tool_id": _ID, "depends_on_tool_id": _ID},
    "tool_executions_completed_at_check": {"completed_at": _EARLY},
    "tool_executions_error_check": {"status": "success", "error_message": "x"},
    "tool_executions_message_check": {"message_id": _ID},
    "tool_executions_run_check": {"run_id": _ID, "trace_id": None},
    "tool_executions_tool_check": {"tool_name": None},
    "transcript_segments_timestamp_end_check": {"timestamp_end": "NaN"},
    "transcript_segments_order_check": {"timestamp_start": 2.0, "timestamp_end": 1.0},
    "usage_metrics_period_end_check": {"period_end": _EARLY},
    "user_sessions_ended_at_check": {"ended_at": _EARLY},
    "workflow_executions_completed_at_check": {"completed_at": _EARLY},
    "workflow_executions_progress_check": {"steps_completed": 2, "steps_total": 1},
    "workflow_executions_steps_total_check": {"steps_total": -1},
}
# What no row breaks while something else of its table refuses or mends it before: what is done about that first, by the
# rule's name or the required column's.
HIDDEN: dict[str, sql.SQL] = {
    # The trigger settles status and ended_at with each other.
    "conversations_end_check": sql.SQL("ALTER TABLE assistants.conversations DISABLE TRIGGER settle"),
    # The trigger looks for a server that the tenant may use.
    "mcp_server_configs_tenant_id_fkey": sql.SQL(
        "ALTER TABLE tools.mcp_server_configs DISABLE TRIGGER check_mcp_server"
    ),
    # Follows from this one and from what holds for steps_completed.
    "workflow_executions_steps_total_check": sql.SQL(
        "ALTER TABLE assistants.workflow_executions DROP CONSTRAINT workflow_executions_progress_check"
    ),
}
