"""Statements of mail in keep to their indexes among 20,000 mails that came to one mailbox."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from db.mail import QUERIES
from tests.support.mailboxes import Mailboxes

CAME = """
INSERT INTO mail.emails (tenant_id, persona_id, mailbox_id, folder, uidvalidity, uid, direction, status, from_email,
    to_email, message_id, thread_id, subject, content_hash, created_at, received_at)
SELECT tenant_id, persona_id, id, 'INBOX', 1, n, 'inbound', 'received', 'bo@example.org', address,
    '<' || n || '@example.com>', '<' || n || '@example.com>', 'subject ' || n, sha256(n::text::bytea), now() - make_interval(hours => n),
    now() - make_interval(hours => n)
FROM mail.mailboxes CROSS JOIN generate_series(1, 20000) AS n WHERE id = %s
"""
DAY = timedelta(days=1)


def test_what_a_batch_looks_for_reads_few_mails(boxes: Mailboxes) -> None:
    mailbox = boxes.mailbox(f"u{uuid4().hex}")
    boxes.database.rows(CAME, (mailbox,))
    boxes.database.rows("ANALYZE mail.emails")
    [(persona,)] = boxes.database.rows("SELECT persona_id FROM mail.mailboxes WHERE id = %s", (mailbox,))
    now, hashes = datetime.now(UTC), [bytes(32)]
    here = {"mailbox_id": mailbox, "folder": "INBOX", "uidvalidity": 2, "uid": 1}
    named = {"persona_id": persona, "tenant_id": boxes.tenant_id, "message_id": "<1@example.com>", "thread_id": "<2>"}
    wanted: list[tuple[str, dict[str, Any], str]] = [
        ("known", {"mailbox_id": mailbox, "hashes": hashes}, "emails_content_hash_idx"),
        ("place", here | {"content_hash": bytes(32)}, "emails_content_hash_idx"),
        ("threads", {"persona_id": persona, "message_ids": ["<1@example.com>"]}, "emails_message_id_idx"),
        ("like_subject", {"persona_id": persona, "subject": "a", "people": ["a"], "since": now - DAY, "until": now},
         "emails_persona_id_received_at_idx"),
        ("join_threads", named, "emails_thread_id_idx"),
    ]  # fmt: skip
    with psycopg.connect(boxes.database.url("system"), cursor_factory=psycopg.ClientCursor) as connection:
        for name, values, index in wanted:
            explain = sql.SQL("EXPLAIN ") + QUERIES.text(name)
            plan = "\n".join(row[0] for row in connection.execute(explain, values).fetchall())
            assert index in plan, (name, plan)
            assert "Seq Scan on emails" not in plan, (name, plan)
