"""What may be wrong with processes and their work, brought about for real."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography.fernet import Fernet
from psycopg.types.json import Jsonb

from console.checks.findings import Sight
from db import audit, schedules
from db.connection import connect
from db.schedules import ScheduleSpec
from pipelines.publish import publish_types
from pipelines.registry import load_registry
from tests.support.doctor import IMPATIENT, Bench, breaks
from tests.support.factory import Factory
from tests.support.rows import waiting

DEFAULT_TENANT = UUID("00000000-0000-7000-8000-000000000001")
REFUSED = {
    "address": "desk@example.org",
    "imap_host": "localhost",
    "imap_security": "tls",
    "failed_polls": 5,
    "last_error": "it refuses the login",
    "is_paused": False,
    "last_polled_at": datetime.now(UTC),
}
UNKNOWN_MAIL = {"direction": "outbound", "status": "unknown", "message_id": "<1@example.com>"}
TWO_MINUTES = timedelta(seconds=125)


@breaks("processes", "wrong", "none lives: start `greenroom relay`")
def no_relay_lives(bench: Bench) -> Sight:
    bench.process("worker")
    return bench.sight()


@breaks("processes", "wrong", "none lives: start `greenroom worker`")
def no_worker_lives(bench: Bench) -> Sight:
    bench.process("relay")
    bench.process("worker", silent=31)
    return bench.sight()


@breaks("processes", "warning", "silent for 31 s: gone, or cut off")
def a_worker_is_silent(bench: Bench) -> Sight:
    bench.live()
    bench.process("worker", silent=31)
    return bench.sight()


@breaks("processes", "wrong", "but rescuer is late by 61 s: look at its log")
def a_loop_is_late(bench: Bench) -> Sight:
    bench.live()
    bench.process("relay", loops_late={"beat": 0.0, "rescuer": 61.0})
    return bench.sight()


@breaks("processes", "wrong", "none lives: start `greenroom worker`")
def the_worker_that_lives_is_another_hosts(bench: Bench) -> Sight:
    bench.live()
    return bench.sight(role="worker", is_own=True)


@breaks("processes", "wrong", "none lives: start `greenroom scheduler`")
def the_scheduler_that_lives_is_another_hosts(bench: Bench) -> Sight:
    bench.process("scheduler")
    return bench.sight(role="scheduler", is_own=True)


@breaks("listen", "wrong", "1 of 2 relays hear nothing")
def a_relay_is_deaf(bench: Bench) -> Sight:
    bench.live()
    bench.process("relay", hears=False)
    return bench.sight()


@breaks("queues", "wrong", "2 wait, the oldest for 2 min, and no worker serves it")
def nobody_serves_a_queue(bench: Bench) -> Sight:
    waiting(bench.database, seconds=120, count=2)
    return bench.sight()


@breaks("queues", "warning", "more workers would help")
def the_oldest_due_task_waits_for_long(bench: Bench) -> Sight:
    bench.live()
    waiting(bench.database, seconds=400)
    return bench.sight()


@breaks("queues", "warning", "1 tasks are held")
def a_task_is_held(bench: Bench) -> Sight:
    waiting(bench.database, hold_reason="unknown task type")
    return bench.sight()


@breaks("queues", "warning", "`greenroom queues resume default`")
def a_queue_is_paused(bench: Bench) -> Sight:
    bench.database.rows("INSERT INTO queue.queues (name, paused_at) VALUES ('default', now())")
    return bench.sight()


@breaks("queues", "wrong", "somebody holds a lock")
def the_live_tasks_are_locked(bench: Bench) -> Sight:
    connection = bench.database.connect()
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE queue.tasks_live")
    return bench.sight(bounds=IMPATIENT)


def _schedule(bench: Bench, name: str) -> None:
    publish_types(bench.database.connect("worker"), load_registry())
    with connect(bench.database.url("operator"), name="test") as connection:
        payload = {"document_id": "01900000-0000-7000-8000-000000000000"}
        schedules.add(connection, ScheduleSpec(name=name, task_type="document.delete", payload=payload, cron="@daily"))


@breaks("processes", "wrong", "none lives: start `greenroom scheduler`")
def no_scheduler_lives(bench: Bench) -> Sight:
    bench.live()
    _schedule(bench, "nightly")
    return bench.sight()


@breaks("schedules", "wrong", "due for 3 min and not fired")
def nobody_fires_a_schedule(bench: Bench) -> Sight:
    _schedule(bench, "nightly")
    bench.database.rows("UPDATE queue.schedules SET next_fire_at = now() - interval '3 min'")
    return bench.sight()


@breaks("schedules", "warning", "its last fire was refused (the type is gone)")
def a_fire_was_refused(bench: Bench) -> Sight:
    _schedule(bench, "nightly")
    bench.database.rows(
        "INSERT INTO queue.fires (schedule_id, fire_at, outcome, error) "
        "SELECT id, now(), 'refused', 'the type is gone' FROM queue.schedules"
    )
    return bench.sight()


@breaks("retention", "warning", "asks for 2 h: it would take 9 of 10 rows of identity.sessions")
def a_run_of_retention_asks(bench: Bench) -> Sight:
    bench.database.rows(
        "INSERT INTO ops.retention_runs (policy_name, table_schema, table_name, action, status, cutoff, rows_planned, "
        "rows_total, started_at) VALUES ('sessions', 'identity', 'sessions', 'delete', 'asking', now(), 9, 10, "
        "now() - interval '2 h')"
    )
    return bench.sight()


@breaks("providers", "warning", "nothing of it is claimed until")
def a_provider_refuses(bench: Bench) -> Sight:
    bench.database.connect("worker").execute("SELECT queue.pause_key('example', 60)")
    return bench.sight()


@breaks("alerts", "warning", "for 5 min: oldest_seconds 400, queue mail, workers 0; no webhook was told")
def an_alert_is_raised(bench: Bench) -> Sight:
    bench.database.rows(
        "INSERT INTO queue.alerts (kind, key, facts, raised_at) "
        "VALUES ('stalled_queue', 'stalled_queue:mail', %s, now() - interval '5 min')",
        (Jsonb({"queue": "mail", "workers": 0, "oldest_seconds": 400}),),
    )
    return bench.sight()


@breaks("spaces", "wrong", "this process knows all-MiniLM-L6-v2")
def the_vectors_are_of_another_model(bench: Bench) -> Sight:
    model = bench.database.value(
        "INSERT INTO knowledge.embedding_models (name, revision, dimensions, max_tokens) "
        "VALUES ('old-model', 'r1', 384, 256) RETURNING id"
    )
    bench.database.rows(
        "INSERT INTO knowledge.spaces (kind, model_id, precision, is_active) VALUES ('chunks', %s, 'vector', true)",
        (model,),
    )
    return bench.sight()


@breaks("keys", "wrong", "1 secrets are under the key 0badc0de, which the ring lacks")
def the_ring_lacks_a_secrets_key(bench: Bench) -> Sight:
    bench.settings["encryption"] = {"keys": Fernet.generate_key().decode()}
    bench.factory.row("vault.secrets", key_id="0badc0de")
    return bench.sight()


@breaks("keys", "wrong", "tasks of tests.sealed have encrypted fields, and there is no key")
def a_task_type_needs_a_key(bench: Bench) -> Sight:
    from pipelines.keyring import STORED_SCHEMA

    schema = {"properties": {"token": {"anyOf": [STORED_SCHEMA, {"type": "null"}]}}}
    bench.database.rows(
        "INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, "
        "payload_version, payload_schema) VALUES ('tests.sealed', 'default', 'tenant', 0, 1, 1, '1 min', 1, %s)",
        (Jsonb(schema),),
    )
    return bench.sight()


@breaks("keys", "wrong", "API keys are hashed with a ring, and there is no key")
def api_keys_have_lost_their_pepper(bench: Bench) -> Sight:
    bench.factory.row("identity.api_keys", status="active", revoked_at=None)
    return bench.sight()


@breaks("keys", "wrong", "")
def a_key_is_none(bench: Bench) -> Sight:
    bench.settings["encryption"] = {"keys": "bm90IDMyIGJ5dGVz"}
    return bench.sight()


def _compared(bench: Bench, **found: int) -> Sight:
    counts = {"objects": 1000, "orphans": 0, "orphan_bytes": 0, "missing": 0} | found
    resource = audit.Resource("storage", "files")
    audit.record(bench.database.connect("system"), "files.checked", "compared", resource, metadata=counts)
    return bench.sight()


@breaks("files", "warning", "12 (3.0 MB) are of no row: `greenroom retention orphans`")
def files_are_of_no_row(bench: Bench) -> Sight:
    return _compared(bench, orphans=12, orphan_bytes=3_000_000)


@breaks("files", "warning", "1,000 files were compared with their rows 0 s ago: 2 are missing")
def files_are_missing(bench: Bench) -> Sight:
    return _compared(bench, missing=2)


@breaks("unknown_mail", "warning", "1 mails may have been sent or not, the first for 2 min")
def nobody_knows_of_a_mail(bench: Bench) -> Sight:
    with connect(bench.database.owner_url, name="test owner") as owner:
        Factory(owner, DEFAULT_TENANT).row("mail.emails", **UNKNOWN_MAIL, sending_at=datetime.now(UTC) - TWO_MINUTES)
    return bench.sight()


@breaks("mailboxes", "warning", "5 polls failed: it refuses the login: ")
def nobody_can_read_a_mailbox(bench: Bench) -> Sight:
    with connect(bench.database.owner_url, name="test owner") as owner:
        Factory(owner, DEFAULT_TENANT).row("mail.mailboxes", **REFUSED)
    return bench.sight()
