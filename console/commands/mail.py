"""`greenroom mail`: what came, what was sent, and what nobody knows of."""

from dataclasses import asdict
from typing import Annotated

import typer

from console import output
from console.commands import mail_out
from console.options import AsJson, Before, Limit, Tenant, id_of, task_id
from console.runtime import operate
from core.errors import UsageError
from db import mailboxes
from db.connection import tenant_transaction
from db.mailboxes import File, Line, Shown

app = typer.Typer(help="Mail: list, show; what its server may have or not.", no_args_is_help=True)
app.command("unknown")(mail_out.unknown)
app.command("resend")(mail_out.resend)
app.command("mark-sent")(mail_out.mark_sent)


@app.command("list")
def list_(
    mailbox: Annotated[str | None, typer.Option("--mailbox", help="Only of that address or id.")] = None,
    limit: Limit = 50,
    before: Before = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List mails, the newest first."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)) as connection:
        only = mailboxes.find(connection, mailbox).id if mailbox else None
        found = mailboxes.list_mails(connection, only, id_of(before), limit)
    following = found[-1].id if len(found) == limit else None
    if as_json:
        output.show_json({"mails": [asdict(each) for each in found], "next": following})
        return
    columns = ("at", "", "from", "to", "subject", "state", "#files", "id")
    output.show_table(columns, [_row(each) for each in found], empty="no mail")
    if following:
        output.note(f"more: --before {following}")


@app.command()
def show(
    mail: Annotated[str, typer.Argument(metavar="ID", help="The mail's id.")],
    html: Annotated[bool, typer.Option("--html", help="Print its HTML, made safe, and nothing else.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show one mail: who, what, its text and its files."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)) as connection:
        found, files = mailboxes.show(connection, task_id(mail))
    if html:
        if found.body_html is None:
            raise UsageError("the mail has no HTML: show it without --html")
        output.show_line(_safe(found.body_html))
    elif as_json:
        safe = {"body_html": _safe(found.body_html) if found.body_html else None}
        output.show_json(asdict(found) | safe | {"attachments": [asdict(each) for each in files]})
    else:
        _show(found, files)


def _safe(html: str) -> str:
    from pipelines.mail.html import safe_html

    return safe_html(html)


def _show(mail: Shown, files: list[File]) -> None:
    facts = asdict(mail)
    hidden = {"headers", "body_text", "body_html", "problems", "tenant_id"}
    output.show_fields([(name.replace("_", " "), value) for name, value in facts.items() if name not in hidden])
    for problem in mail.problems:
        output.show_line(f"problem: {problem}")
    if files:
        rows = [(each.name, each.mime_type, output.size(each.file_size), each.file_path) for each in files]
        output.show_table(("attachment", "type", "#size", "in storage"), rows)
    output.show_line()
    for line in (mail.body_text or "no text: --html shows what there is").splitlines():
        output.show_line(line)


def _row(line: Line) -> tuple[object, ...]:
    marks = [name for name, is_so in (("bounce", line.is_bounce), ("auto-reply", line.is_auto_reply)) if is_so]
    marks += [f"{line.problems} problems"] if line.problems else []
    return (
        f"{line.at:%Y-%m-%d %H:%M}",
        "in" if line.direction == "inbound" else "out",
        line.from_email,
        line.to_email,
        line.subject,
        ", ".join([line.status, *marks]),
        line.attachments,
        line.id,
    )
