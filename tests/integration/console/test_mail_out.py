"""`greenroom mail unknown`, `resend` and `mark-sent`, beside a running `up`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from db.connection import Connection, connect
from db.embedded import running_url
from tests.support.command import Inline
from tests.support.factory import Factory

STATUS = "SELECT status FROM mail.emails WHERE id = %s"
DEEDS = "SELECT event_type FROM audit.audit_events WHERE resource_id = %s AND event_type LIKE 'mail.%%'"


@pytest.fixture
def owner(inline: Inline) -> Iterator[Connection]:
    with connect(running_url(inline.home) or "", name="test") as connection:
        yield connection


@pytest.fixture
def slug(inline: Inline) -> str:
    """A tenant of the test's own."""
    name = f"tenant-{uuid4().hex[:8]}"
    inline.ok("tenants", "add", name)
    return name


def unknown_mail(inline: Inline, owner: Connection, slug: str) -> UUID:
    factory = Factory(owner, inline.json("tenants", "show", slug)["id"])
    given = {"status": "unknown", "message_id": "<1@example.com>", "sending_at": datetime.now(UTC), "subject": "Held"}
    return UUID(str(factory.row("mail.emails", direction="outbound", to_emails=["bo@example.org"], **given)["id"]))


def test_an_operator_decides_on_mails_that_nobody_knows_of(inline: Inline, owner: Connection, slug: str) -> None:
    first, second = (unknown_mail(inline, owner, slug) for _ in range(2))
    listed = inline.json("mail", "unknown", "--tenant", slug)
    assert [(each["id"], each["subject"]) for each in listed["mails"]] == [(str(first), "Held"), (str(second), "Held")]
    assert "bo@example.org" in inline.ok("mail", "unknown", "--tenant", slug)

    assert inline.ok("mail", "resend", str(first), "--tenant", slug).strip() == "1 queued again"
    assert inline.json("mail", "mark-sent", str(second), "--tenant", slug) == {"mails": [str(second)]}
    assert owner.execute(STATUS, (second,)).fetchall() == [("sent",)]
    deeds = [owner.execute(DEEDS, (str(each),)).fetchall() for each in (first, second)]
    assert deeds == [[("mail.resent",)], [("mail.marked_sent",)]]
    assert inline.ok("mail", "unknown", "--tenant", slug).strip() == "no mail is unknown"

    refused = inline.run("mail", "mark-sent", str(second), "--tenant", slug)
    assert (refused.returncode, "the mail is sent: only one that is unknown" in refused.stderr) == (2, True)
    missing = inline.run("mail", "resend", str(uuid4()), "--tenant", slug)
    assert (missing.returncode, "there is no mail of that id" in missing.stderr) == (1, True)
