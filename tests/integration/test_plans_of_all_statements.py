"""Each named statement, each function of the owner's rights and each view has a guard of what it reads, or a reason."""

from tests.integration import (
    test_plans_of_documents,
    test_plans_of_health,
    test_plans_of_records,
    test_plans_of_schedules,
    test_plans_of_search,
    test_plans_of_tenants,
    test_plans_of_watching,
)
from tests.integration.queue import test_dependency_plans, test_limit_plans, test_plans
from tests.integration.queue.test_named_sql import QUERIES
from tests.support.database import Database

MODULES = (
    test_plans_of_documents, test_plans_of_search, test_plans_of_watching, test_plans_of_records, test_plans_of_tenants,
    test_plans_of_schedules, test_plans_of_health,
)  # fmt: skip
GUARDS = [guard for module in MODULES for guard in module.GUARDS]
GUARDED = {guard.statement for guard in GUARDS} | {
    guard.name for module in (test_plans, test_limit_plans, test_dependency_plans) for guard in module.GUARDS
}
NO_TABLE = "reads no table of ours"
ROW_A_SPACE = "a space, or a model, is a row: there are a handful"
ROW_A_PROCESS = "a process, a queue, a task type or a chore is a row"
CATALOGUE = "reads the catalogue, and a handful of policies and runs"
WHOLE_MONTH = "counts a month that is over, all of it, before it goes"
A_ROW_MORE = "it adds a row"
RUNS = "a run of retention is a row: some a day"
PLANS = "counts all that a policy would take, for operators, who say how long it may"
AN_ARCHIVE = "a part of an archive is a row: up to 200,000 rows of a month"
SCHEDULES = "a schedule is a row, and has a name: there are hundreds, and one is changed at a time"
SCHEDULES_OF_DOCTOR = "looks at all schedules, for operators: there are hundreds"
KIT = "the kit for tests runs it, no process does"
ARCHIVES = "a part is a row of its table's month: there are hundreds"
PAGE_OF_MONTH = "a page of a month that is over, by the blocks or keys that it is told"
A_PART = "a part of an archive is a row, and has a key: 200,000 rows of a table are one"
A_MAIL = "a mail, or a mailbox, by its key"
MAIL_PLANS = "tests/integration/mail/out/test_plans.py holds it to its index"
MAIL_IN_PLANS = "tests/integration/mail/test_plans.py holds it to its index"
MAILBOXES = "a tenant's mailboxes, for operators: there are hundreds"
UNKNOWN_MAIL = "what waits for an operator, by an index of little else"
OF_TEXTS = "reads no table of ours but holds: a handful"
FORGETTING = {
    "await_deletions": NO_TABLE,
    "discard": A_PART,
    "drop_subjects": A_PART,
    "hash": OF_TEXTS,
    "held": OF_TEXTS,
    "holds": OF_TEXTS,
    "keep_holds": OF_TEXTS,
    "leave_tenant": "looks at all parts of archives, once a tenant's end",
    "lock_run": A_PART,
    "next": A_PART,
    "recount_subjects": A_PART,
    "swap": A_PART,
    "unwritten": "by an index of what is being written: a handful",
}
# By statement, why it has no guard.
UNGUARDED = {
    **{
        f"archives.{name}": ARCHIVES
        for name in (
            "add_subjects",
            "begin",
            "discard",
            "emptied_months",
            "end_part",
            "end_scan",
            "lock_void",
            "note_deleted",
            "note_emptied",
            "note_written",
            "pending",
            "verify",
        )
    },
    **{f"archives.{name}": WHOLE_MONTH for name in ("drop_month", "is_whole", "next_month")},
    **{f"archives.{name}": PAGE_OF_MONTH for name in ("check", "empty", "gather")},
    **{f"archives.{name}": CATALOGUE for name in ("blocks", "columns", "files", "stage")},
    "archives.pin": NO_TABLE,
    "alerts.begin": ROW_A_PROCESS,
    "alerts.sight_months": CATALOGUE,
    "dependencies.lock": NO_TABLE,
    "documents.hold_active": NO_TABLE,
    **{f"drift.{name}": "reads the catalogue" for file, name in QUERIES if file == "drift"},
    "files.archive_keys": "a part of an archive by its key",
    "files.archives": "all parts of archives, page by page by their keys, once a check",
    "files.installation": "the one row that says who the installation is",
    "files.known_archives": "parts of archives by their keys, once a store",
    "files.lock": NO_TABLE,
    "files.now": NO_TABLE,
    "fires.due": "looks at all schedules for a clock that was set back: there are hundreds",
    "fires.enqueue_held": A_ROW_MORE,
    "fires.fire": A_ROW_MORE,
    "fires.fire_by_hand": A_ROW_MORE,
    "fires.lock": SCHEDULES,
    "fires.look_again": "takes all schedules of zones, once a scheduler's start",
    "fires.note_missed": "by the whole key, and seldom: a clock was set back and on again",
    "fires.settle": SCHEDULES,
    **{f"health.{name}": NO_TABLE for file, name in QUERIES if file == "health"},
    **{f"forgetting.{name}": reason for name, reason in FORGETTING.items()},
    "identity.erase_user": "a user with all that goes along, once",
    "identity.slugs_of": "a tenant is a row, found by its key",
    "identity.tenant_of_user": "a user by its key",
    "identity.tenant_by_slug": "a tenant is a row, found by its unique key",
    "leases.ring_rescuers": NO_TABLE,
    "leases.wait_for_disk": NO_TABLE,
    "limits.forget": "all buckets of tokens, once an hour: a token spent is not to cost an index",
    "limits.pause_key": "tests/integration/queue/test_limit_plans.py holds the function to what it reads",
    **{
        f"mail.{name}": A_MAIL
        for name in ("cursor", "folders", "insert", "insert_attachment", "lock", "move_cursor", "polled", "reading")
    },
    **{f"mail.{name}": MAIL_IN_PLANS for name in ("join_threads", "known", "like_subject", "place", "threads")},
    "mail.due": "looks at all mailboxes once a minute: there are hundreds",
    "mail.enqueue": "queue.enqueue is it, once a mailbox",
    "mail.own_document": "a document by its key",
    **{
        f"mailboxes.{name}": MAILBOXES
        for name in ("add", "add_folders", "mailbox", "mailboxes", "persona", "set_paused")
    },
    **{f"mailboxes.{name}": A_MAIL for name in ("attachments", "remove", "remove_secrets", "show")},
    "mailboxes.troubled": "mail.troubled is it",
    "mailboxes.list": "a page by the index of a tenant's mails, for operators",
    **{
        f"maintenance.{name}": "reads the catalogue, and its task's row"
        for file, name in QUERIES
        if file == "maintenance"
    },
    "mail.become_watcher": NO_TABLE,
    "mail.ring": "enqueues, and looks for each mailbox's live task by its unique key",
    "mail.watched": "looks at all mailboxes of an installation, at most `watch_most`, once in some seconds",
    "memory.counts": "counts all that a persona knows, for operators",
    "memory.enqueue": "queue.enqueue is it, once a persona",
    "memory.list": "sorts what a persona remembers, for operators, who see a page",
    "memory.lock": NO_TABLE,
    "memory.persona": "looks at all personas of a tenant, for operators, who name one",
    "months.clear": WHOLE_MONTH,
    "months.drop": WHOLE_MONTH,
    "months.make": CATALOGUE,
    "months.missing": CATALOGUE,
    "months.to_go": CATALOGUE,
    **{
        f"outbound.{name}": A_MAIL
        for name in (
            "attachments",
            "begin",
            "call_sent",
            "end_sent",
            "end_unknown",
            "end_unsent",
            "lock_limited",
            "outgoing",
            "queue_again",
            "status",
        )
    },
    **{f"outbound.{name}": MAIL_PLANS for name in ("on_the_way", "seconds_until_free", "settle", "unknown")},
    "outbound.count_unknown": UNKNOWN_MAIL,
    "processes.beat": ROW_A_PROCESS,
    "processes.forget_processes": ROW_A_PROCESS,
    "processes.mark_sleeping": ROW_A_PROCESS,
    "processes.offer": ROW_A_PROCESS,
    "processes.stop_serving": ROW_A_PROCESS,
    "processes.unregister_process": ROW_A_PROCESS,
    "queue.publish_task_type": ROW_A_PROCESS,
    "retention_runs.asking": RUNS,
    "retention_runs.begin": CATALOGUE,
    "retention_runs.cancel_stale": RUNS,
    "retention_runs.drop_emptied": CATALOGUE,
    "retention_runs.end": "counts what a hold keeps, once a run, where there is a hold",
    "retention_runs.fail": RUNS,
    "retention_runs.months_over": CATALOGUE,
    "retention_runs.page": "ops.retention_page is it",
    "retention_runs.plan": PLANS,
    "retention_runs.plan_bound": NO_TABLE,
    "retention_runs.plan_dependents": PLANS,
    "retention_runs.plan_total": PLANS,
    "retention_runs.planned_policies": CATALOGUE,
    "retention_runs.policies": CATALOGUE,
    "retention_runs.runs_of": RUNS,
    "retention_runs.show": RUNS,
    "retention_runs.unknown": CATALOGUE,
    "retention_runs.weigh": "counts what a run is to take, once",
    "queue.ring": ROW_A_PROCESS,
    "replays.plan_for_values": NO_TABLE,
    "restores.columns": CATALOGUE,
    "restores.is_keyed": CATALOGUE,
    "restores.keep": AN_ARCHIVE,
    "restores.list": AN_ARCHIVE,
    "restores.month": CATALOGUE,
    "restores.page": "writes the rows of a page, each by its key; the archive by its own",
    "restores.parts": AN_ARCHIVE,
    "restores.references": CATALOGUE,
    **{f"retention.{name}": CATALOGUE for file, name in QUERIES if file == "retention"},
    **{
        f"schedules.{name}": SCHEDULES
        for name in (
            "add",
            "bury",
            "change",
            "declare",
            "drop_undeclared",
            "hold",
            "judge",
            "list",
            "pause",
            "read",
            "remove",
            "resume",
            "show",
            "unbury",
        )
    },
    "schedules.secret_fields": ROW_A_PROCESS,
    "schema.has_revision": NO_TABLE,
    "schema.revision": "one row",
    "fires.is_any": SCHEDULES_OF_DOCTOR,
    "fires.troubled": SCHEDULES_OF_DOCTOR,
    "spaces.activate": ROW_A_SPACE,
    "spaces.building": NO_TABLE,
    "spaces.chunks": "counts all chunks, for who fills a space",
    "spaces.create": ROW_A_SPACE,
    "spaces.deactivate": ROW_A_SPACE,
    "spaces.forget_models": ROW_A_SPACE,
    "spaces.give_up": ROW_A_SPACE,
    "spaces.has_partition": ROW_A_SPACE,
    "spaces.index": ROW_A_SPACE,
    "spaces.lock": NO_TABLE,
    "spaces.place": ROW_A_SPACE,
    "spaces.raise_memory": NO_TABLE,
    "spaces.spaces": ROW_A_SPACE,
    "spaces.steer": NO_TABLE,
    "spaces.steer_no_more": NO_TABLE,
    "spaces.unready": "looks at each chunk that is shown, once before a switch",
    "spaces.unshown": "looks at each document, once at the end of a filling",
    "spaces.vectors": "counts all vectors of a space, for who fills it",
    "stale.is_any": ROW_A_PROCESS,
    "statistics.begin": ROW_A_PROCESS,
    "statistics.reach": ROW_A_PROCESS,
    "statistics.to_next_minute": NO_TABLE,
    "tasks.known_types": ROW_A_PROCESS,
    "tasks.pause_queue": ROW_A_PROCESS,
    "tasks.processes": ROW_A_PROCESS,
    "tasks.queues": "counts all live tasks by queue, for operators",
    "tasks.resume_queue": ROW_A_PROCESS,
    "tasks.scope_of": ROW_A_PROCESS,
    "tenants.add": A_ROW_MORE,
    "usage.record_usage": A_ROW_MORE,
    "tenants.details": "counts a tenant's live tasks among all, for operators",
    "tenants.tables": CATALOGUE,
    "testing.came_to": KIT,
    "testing.enqueued": KIT,
    "testing.pretend_attempts": KIT,
    "testing.still_due": KIT,
    "vault.count_by_key": "counts all values by key: how far a rotation is",
    "vault.has_hashes": "stops at the first API key that is active",
    "vault.change_secret": "a secret by its key",
    "vault.sealed_types": ROW_A_PROCESS,
    "vault.secret_of_id": "a secret by its key",
}
# What logins call that runs with the owner's rights, and views: by name, why no guard calls it.
FUNCTIONS = """
SELECT p.oid::regproc::text FROM pg_proc p
WHERE p.prosecdef AND p.prorettype <> 'trigger'::regtype AND EXISTS (
    SELECT FROM pg_roles r WHERE r.rolname ^@ 'greenroom_' AND r.rolname <> 'greenroom_owner'
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE'))
UNION SELECT schemaname || '.' || viewname FROM pg_views
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
UNCALLED = {
    "identity.erase_user": "a user with all that goes along, once",
    "mail.count_unknown": UNKNOWN_MAIL,
    "mail.troubled": "looks at all mailboxes, for operators: there are hundreds",
    "ops.allow_maintenance": CATALOGUE,
    "ops.await_deletions": NO_TABLE,
    "ops.archive_blocks": CATALOGUE,
    "ops.month_to_archive": WHOLE_MONTH,
    "ops.archive_stage": CATALOGUE,
    "ops.takes_whole_month": WHOLE_MONTH,
    "ops.check_stage": PAGE_OF_MONTH,
    "ops.clear_month": WHOLE_MONTH,
    "ops.drop_emptied": CATALOGUE,
    "ops.end_retention": "counts what a hold keeps, once a run, where there is a hold",
    "ops.plan_dependents": PLANS,
    "ops.plan_retention": PLANS,
    "ops.plan_total": PLANS,
    "ops.weigh_retention": "counts what a run is to take, once",
    "ops.connections": NO_TABLE,
    "ops.create_months_of": CATALOGUE,
    "ops.drop_archived": WHOLE_MONTH,
    "ops.drop_leftover_index": CATALOGUE,
    "ops.drop_month": WHOLE_MONTH,
    "ops.empty_archive": PAGE_OF_MONTH,
    "ops.gather_archive": PAGE_OF_MONTH,
    "ops.hash_archived": OF_TEXTS,
    "ops.hold_archived": OF_TEXTS,
    "ops.holds_on": OF_TEXTS,
    "ops.keep_holds": OF_TEXTS,
    "ops.make_month": CATALOGUE,
    "ops.retention_condition": CATALOGUE,
    "ops.restore_month": CATALOGUE,
    "ops.restore_page": "writes the rows of a page, each by its key; the archive by its own",
    "ops.table_sizes": NO_TABLE,
    "ops.unused_indexes": NO_TABLE,
    "queue.create_months": NO_TABLE,
    "queue.enqueue_array": "queue.enqueue is it, of one task",
    "queue.open_batch": A_ROW_MORE,
    "queue.pause_key": "tests/integration/queue/test_limit_plans.py holds it to what it reads",
    "queue.tenant_status": "a tenant by its key",
}


def test_each_named_statement_is_guarded_or_says_why_not() -> None:
    names = {f"{file}.{name}" for file, name in QUERIES}
    named = {name for name in GUARDED if " " not in name}
    assert sorted(names - named - set(UNGUARDED)) == [], "add a guard, or a reason"
    assert sorted((named | set(UNGUARDED)) - names) == [], "there is no such statement"
    assert sorted(named & set(UNGUARDED)) == [], "it is guarded, and needs no reason"


def test_each_function_of_the_owners_rights_and_each_view_is_guarded_or_says_why_not(database: Database) -> None:
    texts = [guard.text for guard in GUARDS]
    there = {name for (name,) in database.rows(FUNCTIONS)}
    lacking = {name for name in there - set(UNCALLED) if not any(name in text for text in texts)}
    assert sorted(lacking) == []
    assert set(UNCALLED) <= there
