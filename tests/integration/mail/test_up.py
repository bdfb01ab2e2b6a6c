"""`greenroom up` with a mailbox: what is sent to it is found by search in seconds."""

import time
from pathlib import Path
from uuid import uuid4

import pytest

from db.connection import connect
from db.embedded import running_url
from tests.support.command import Greenroom
from tests.support.dovecot import PASSWORD, Dovecot
from tests.support.factory import Factory
from tests.support.mailboxes import KEY, mail_of
from tests.support.waiting import eventually


@pytest.mark.faults
def test_a_mail_is_found_within_ten_seconds(tmp_path: Path, imap: Dovecot) -> None:
    """The real command, an embedded server, a real IMAP server; loading the model for the first time is not counted."""
    user = f"u{uuid4().hex}"
    settings = {
        "GREENROOM_ENCRYPTION_KEYS": KEY,
        "GREENROOM_MAIL_CA_FILE": str(imap.ca_file),
        "MAIL_SECRET": PASSWORD,
    }
    greenroom = Greenroom(tmp_path / "home", settings)
    with greenroom.running("up") as running:
        eventually(lambda: "Greenroom is up." in running.said() or running.process.poll() is not None, 60)
        url = running_url(greenroom.home)
        assert url is not None, running.said()
        with connect(url, name="test") as owner:
            [(tenant_id,)] = owner.execute("SELECT id FROM identity.tenants").fetchall()
            persona = Factory(owner, tenant_id).row("assistants.personas")["id"]
        place = f"localhost:{imap.tls_port}"
        add = ("mailboxes", "add", str(persona), f"{user}@example.org", "--imap", place, "--username", user)
        greenroom.ok(*add, "--secret", "MAIL_SECRET", "--bodies")
        eventually(lambda: greenroom.json("mailboxes", "list")["mailboxes"][0]["last_polled_at"], 20)
        imap.deliver(user, [mail_of("Sowing", "The first mail makes a worker load the model.")])
        eventually(lambda: "Sowing" in greenroom.ok("search", "the first mail loads the model"), 40)
        sent = time.monotonic()
        imap.deliver(user, [mail_of("Harvest", "The zucchini of the greenhouse are ripe.")])
        eventually(lambda: "zucchini" in greenroom.ok("search", "zucchini greenhouse"), 10)
        assert time.monotonic() - sent < 10
        assert running.stop() == 0, running.said()
