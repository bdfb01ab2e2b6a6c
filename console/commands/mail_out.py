"""`greenroom mail unknown`, `resend` and `mark-sent`: mails that their server may have or not."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import psycopg
import typer

from console import output
from console.options import AsJson, Before, Limit, Tenant, id_of, task_ids
from console.runtime import operate
from core.errors import UnavailableError
from db import outbound
from db.connection import Connection, tenant_transaction

Mails = Annotated[list[str], typer.Argument(metavar="MAIL...", help="Their ids.")]


def unknown(limit: Limit = 20, before: Before = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List mails that were given to their server, which did not say that it has them; the first that was written first.

    `resend` sends them again, `mark-sent` says that they were sent: look into the server's log, or ask who was to have
    them.
    """
    after = id_of(before) or outbound.FIRST
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        rows = outbound.unknown(operation.connection, after, limit)
    following = rows[-1].id if len(rows) == limit else None
    if as_json:
        output.show_json({"mails": [asdict(row) for row in rows], "next": following})
        return
    output.show_table(
        ("id", "mailbox", "to", "subject", "since", "Message-ID", "why"),
        [(r.id, r.mailbox, ", ".join(r.to_emails), r.subject, r.since, r.message_id, r.why) for r in rows],
        empty="no mail is unknown",
    )
    if following:
        output.note(f"more: --before {following}")


def resend(mails: Mails, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Send mails again that failed or are unknown, under their Message-ID; whoever has one already gets a second."""
    ids = task_ids(mails)
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        for email_id in ids:
            _resend(operation.connection, email_id)
    _show(ids, "queued again", as_json=as_json)


def mark_sent(mails: Mails, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Say of unknown mails that they were sent."""
    ids = task_ids(mails)
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)):
        for email_id in ids:
            outbound.mark_sent(operation.connection, email_id)
    _show(ids, "marked as sent", as_json=as_json)


def _resend(connection: Connection, email_id: UUID) -> None:
    try:
        outbound.resend(connection, email_id)
    except psycopg.errors.UniqueViolation:
        raise UnavailableError(f"the task of {email_id} is about to end: try again in a moment") from None


def _show(ids: list[UUID], deed: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"mails": ids})
    else:
        output.show_line(f"{len(ids)} {deed}")
