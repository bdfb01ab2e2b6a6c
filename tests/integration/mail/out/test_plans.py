"""Statements of mail out keep to their indexes among 20,000 mails that were sent."""

from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from db.outbound import FIRST, QUERIES
from tests.support.post import Post

SENT = """
INSERT INTO mail.emails
    (tenant_id, persona_id, mailbox_id, direction, status, from_email, to_email, message_id, sending_at, sent_at)
SELECT tenant_id, persona_id, id, 'outbound', 'sent', address, 'bo@example.org', '<' || n || '@example.com>',
    now() - make_interval(mins => n), now() FROM mail.mailboxes CROSS JOIN generate_series(1, 20000) AS n
"""
IDS = [UUID(int=n) for n in range(1000)]
PAGE = {"after": FIRST, "most": 1000}


@pytest.fixture
def mailbox(post: Post) -> UUID:
    found = post.mailbox(25, rate_limit=100)
    post.database.rows(SENT)
    post.database.rows("ANALYZE mail.emails")
    return found


def test_what_goes_over_many_mails_reads_few(post: Post, mailbox: UUID) -> None:
    wanted: list[tuple[str, dict[str, Any], str]] = [
        ("seconds_until_free", {"mailbox_id": mailbox}, "emails_sending_at_idx"),
        ("on_the_way", PAGE | {"status": "queued"}, "emails_outgoing_idx"),
        ("unknown", PAGE, "emails_outgoing_idx"),
        ("settle", {"ids": IDS, "message": ""}, "emails_outgoing_idx"),
        ("settle", {"ids": IDS, "message": ""}, "unique_key"),
    ]
    with psycopg.connect(post.database.url("system"), cursor_factory=psycopg.ClientCursor) as connection:
        for name, values, index in wanted:
            explain = sql.SQL("EXPLAIN ") + QUERIES.text(name)
            plan = "\n".join(row[0] for row in connection.execute(explain, values).fetchall())
            assert index in plan, (name, plan)
            assert "Seq Scan on emails" not in plan, (name, plan)
