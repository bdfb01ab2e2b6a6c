"""`greenroom mailboxes` and `greenroom mail list|show`, beside a running `up`."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from db.connection import Connection, connect
from db.embedded import running_url
from tests.support.command import Inline
from tests.support.factory import Factory

SECRETS = "SELECT count(*) FROM vault.secrets WHERE tenant_id = %s AND secret_type = 'email_imap'"


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


@pytest.fixture
def factory(inline: Inline, owner: Connection, slug: str) -> Factory:
    return Factory(owner, UUID(inline.json("tenants", "show", slug)["id"]))


def test_mail_is_listed_and_shown_with_its_html_made_safe(inline: Inline, factory: Factory, slug: str) -> None:
    given = {"subject": "Plan", "body_html": "<p>Tea<script>alert(1)</script></p>", "body_text": "Tea"}
    made = factory.row("mail.emails", direction="inbound", status="received", **given)["id"]
    [listed] = inline.json("mail", "list", "--tenant", slug)["mails"]
    assert (listed["id"], listed["subject"], listed["direction"]) == (str(made), "Plan", "inbound")
    shown = inline.json("mail", "show", str(made), "--tenant", slug)
    assert (shown["body_text"], shown["attachments"]) == ("Tea", [])
    html = inline.ok("mail", "show", str(made), "--html", "--tenant", slug)
    assert "Tea" in html
    assert "script" not in html


def test_a_mailbox_is_paused_resumed_and_removed(
    inline: Inline, factory: Factory, owner: Connection, slug: str
) -> None:
    given = {"address": "desk@example.org", "imap_host": "localhost", "imap_port": 1, "imap_security": "tls"}
    secret = factory.row("vault.secrets", secret_type="email_imap")["id"]
    made = factory.row("mail.mailboxes", imap_secret_id=secret, **given, is_paused=False)["id"]
    tenant = ("--tenant", slug)
    assert inline.json("mailboxes", "pause", "desk@example.org", *tenant)["is_paused"] is True
    assert inline.ok("mailboxes", "pause", str(made), *tenant).strip() == "desk@example.org is already paused"
    assert inline.json("mailboxes", "resume", "desk@example.org", *tenant)["is_paused"] is False
    [listed] = inline.json("mailboxes", "list", *tenant)["mailboxes"]
    assert (listed["id"], listed["address"]) == (str(made), "desk@example.org")
    inline.ok("mailboxes", "remove", "desk@example.org", "--yes", *tenant)
    assert inline.json("mailboxes", "list", *tenant)["mailboxes"] == []
    assert owner.execute(SECRETS, (factory.tenant_id,)).fetchall() == [(0,)]
