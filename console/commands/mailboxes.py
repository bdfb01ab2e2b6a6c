"""`greenroom mailboxes`: where mail is read, whether that works, and how far it came."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import typer

from console import output
from console.options import AsJson, Limit, Tenant
from console.runtime import Operation, operate
from console.secret_input import read_secret
from core.errors import GreenroomError, UsageError
from db import collections, mail, mailboxes, vault
from db.connection import Connection, tenant_transaction
from db.mailboxes import Mailbox
from db.vault import SecretName

app = typer.Typer(help="Mailboxes: add, test, list, pause, resume, remove, watch.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="MAILBOX", help="Its address or id.")]
Security = Literal["tls", "starttls", "none"]
Login = Literal["password", "xoauth2"]
Side = Literal["imap", "smtp"]
_PORTS = {
    "imap": {"tls": 993, "starttls": 143, "none": 143},
    "smtp": {"tls": 465, "starttls": 587, "none": 25},
}
_LOCAL = ("localhost", "127.", "::1")


@app.command()
def add(
    persona: Annotated[str, typer.Argument(metavar="PERSONA", help="Its name or id.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The mailbox's address.")],
    imap: Annotated[str | None, typer.Option("--imap", metavar="HOST[:PORT]", help="Where its mail is read.")] = None,
    smtp: Annotated[str | None, typer.Option("--smtp", metavar="HOST[:PORT]", help="Where its mail is sent.")] = None,
    security: Annotated[Security, typer.Option("--security", help="none: to this machine alone.")] = "tls",
    smtp_security: Annotated[Security | None, typer.Option("--smtp-security", help="Unset: as --security.")] = None,
    login: Annotated[Login, typer.Option("--login", help="What the secret is.")] = "password",
    username: Annotated[str | None, typer.Option("--username", help="Unset: the address.")] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            "--secret",
            metavar="VARIABLE",
            help="The environment's variable that holds it; - reads it; unset: asks.",
        ),
    ] = None,
    folder: Annotated[list[str] | None, typer.Option("--folder", help="A folder that is read; unset: INBOX.")] = None,
    interval: Annotated[int, typer.Option("--interval", min=1, max=86400, help="Seconds between polls.")] = 60,
    bodies: Annotated[bool, typer.Option("--bodies", help="Search finds bodies.")] = False,
    attachments: Annotated[bool, typer.Option("--attachments", help="Search finds attachments.")] = False,
    collection: Annotated[
        str | None, typer.Option("--collection", help="Slug of where those documents go; made if it is missing.")
    ] = None,
    rate_limit: Annotated[int | None, typer.Option("--rate-limit", min=1, help="Mails sent in an hour.")] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Add a mailbox of a persona. One secret is asked for, and used for reading and sending; it is stored encrypted."""
    if imap is None and smtp is None:
        raise UsageError("a mailbox is read or sends: say --imap HOST, --smtp HOST, or both")
    sides = _side("imap", imap, security) | _side("smtp", smtp, smtp_security or security)
    value = read_secret(secret, "password" if login == "password" else "token")
    values: dict[str, Any] = sides | {
        "address": address,
        "poll_interval_seconds": interval,
        "rate_limit": rate_limit,
        "rate_limit_seconds": 3600,
        "bodies_to_documents": bodies,
        "attachments_to_documents": attachments,
    }
    with operate() as operation:
        tenant_id = operation.tenant_id(tenant)
        with tenant_transaction(operation.connection, tenant_id) as connection:
            values["tenant_id"] = tenant_id
            values["persona_id"] = mailboxes.persona_id_of(connection, persona)
            values["collection_id"] = (
                collections.ensure_collection(connection, tenant_id, collection)[0] if collection else None
            )
            for side in get_args(Side):
                values |= _login(operation, connection, side, values, (login, username or address, value))
            made = mailboxes.add(connection, values, folder or ["INBOX"])
    if as_json:
        output.show_json({"id": made, "address": address})
    else:
        output.show_line(f"added the mailbox {address}: {made}; `greenroom mailboxes test {address}` tries it")


@app.command("test")
def try_(mailbox: Named, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Log in to a mailbox as its polls do, and list the folders that it has."""
    with operate() as operation:
        found, folders = _try(operation, mailbox, operation.tenant_id(tenant))
    missing = sorted(set(found.folders) - set(folders))
    if as_json:
        output.show_json({"id": found.id, "address": found.address, "folders": folders, "missing": missing})
    else:
        output.show_line(f"{found.address} can be read; it has {len(folders)} folders")
        output.show_table(("folder", "read"), [(name, "yes" if name in found.folders else "") for name in folders])
    if missing:
        raise GreenroomError(f"it has no folder {missing[0]!r}, which is to be read")


@app.command("list")
def list_(limit: Limit = 100, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List mailboxes by their addresses: where they are read, when they were last, and what went wrong."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)) as connection:
        found = mailboxes.mailboxes(connection, limit)
    if as_json:
        output.show_json({"mailboxes": [asdict(each) for each in found]})
        return
    columns = ("mailbox", "persona", "read from", "folders", "#every", "last poll", "state", "id")
    output.show_table(columns, [_row(each) for each in found], empty="no mailboxes: `greenroom mailboxes add`")


@app.command()
def pause(mailbox: Named, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Read a mailbox no more until it is resumed."""
    _set_paused(mailbox, tenant, is_paused=True, as_json=as_json)


@app.command()
def resume(mailbox: Named, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Read a paused mailbox again, from where it was left."""
    _set_paused(mailbox, tenant, is_paused=False, as_json=as_json)


@app.command()
def remove(
    mailbox: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: added again, it is read from its first mail on.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Remove a mailbox and its secret; the mail that was read stays."""
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)) as connection:
        found = mailboxes.find(connection, mailbox)
        if not yes:
            raise UsageError(f"this removes the mailbox {found.address} and how far it was read: say --yes")
        mailboxes.remove(connection, found.id)
    if as_json:
        output.show_json({"id": found.id, "address": found.address})
    else:
        output.show_line(f"{found.address} is removed; its mail stays")


def _side(side: Side, place: str | None, security: Security) -> dict[str, Any]:
    """Return where one side of a mailbox is. Raises UsageError."""
    if place is None:
        return {f"{side}_{name}": None for name in ("host", "port", "security")}
    host, _, port = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
    if security == "none" and not host.startswith(_LOCAL):
        raise UsageError(f"{host} is another machine: a password goes there over tls or starttls alone")
    number = int(port) if port else _PORTS[side][security]
    return {f"{side}_host": host.strip("[]"), f"{side}_port": number, f"{side}_security": security}


def _login(
    operation: Operation, connection: Connection, side: Side, values: dict[str, Any], login: tuple[Login, str, str]
) -> dict[str, Any]:
    """Return as whom one side is used, its secret written; nothing where the mailbox has not that side."""
    from pipelines.vault.cipher import Cipher
    from pipelines.vault.secrets import put_secret

    if values[f"{side}_host"] is None:
        return {f"{side}_{name}": None for name in ("login", "username", "secret_id")}
    kind, username, secret = login
    cipher = Cipher([key.get_secret_value() for key in operation.settings.encryption.keys])
    name = SecretName(values["tenant_id"], f"email_{side}", values["address"][:255], values["persona_id"])
    put_secret(connection, cipher, name, secret)
    secret_id = vault.secret_id(connection, name)
    return {f"{side}_login": kind, f"{side}_username": username, f"{side}_secret_id": secret_id}


def _try(operation: Operation, mailbox: str, tenant_id: UUID) -> tuple[Mailbox, Sequence[str]]:
    from pipelines.mail.access import mail_access, mailbox_session
    from pipelines.mail.credentials import open_credential
    from pipelines.vault.cipher import Cipher, Sealed

    with tenant_transaction(operation.connection, tenant_id) as connection:
        found = mailboxes.find(connection, mailbox)
        reading = mail.reading(connection, found.id)
        stored = vault.secret_of_id(connection, tenant_id, reading.secret_id) if reading else None
    if reading is None or stored is None:
        raise UsageError(f"{found.address} only sends: there is nothing to read")
    cipher = Cipher([key.get_secret_value() for key in operation.settings.encryption.keys])

    def keep(sealed: Sealed) -> None:
        with tenant_transaction(operation.connection, tenant_id) as connection:
            vault.change_secret(connection, stored, sealed.text, sealed.key_id)

    access = mail_access(operation.settings.mail)
    secret = open_credential(cipher, stored, reading.login, access.tokens, keep)
    with mailbox_session(access, reading, secret) as session:
        return found, session.folders()


def _set_paused(mailbox: str, tenant: str | None, *, is_paused: bool, as_json: bool) -> None:
    with operate() as operation, tenant_transaction(operation.connection, operation.tenant_id(tenant)) as connection:
        found = mailboxes.find(connection, mailbox)
        is_change = mailboxes.set_paused(connection, found.id, is_paused=is_paused)
        after = mailboxes.find(connection, str(found.id))
    if as_json:
        output.show_json(asdict(after))
    else:
        already = "" if is_change else "already "
        output.show_line(f"{found.address} is {already}{'paused' if is_paused else 'read'}")


def _row(mailbox: Mailbox) -> tuple[object, ...]:
    state: object = "paused" if mailbox.is_paused else "sends only" if mailbox.imap_host is None else "ok"
    if mailbox.last_error and not mailbox.is_paused:
        state = output.Alarming(f"{mailbox.failed_polls} failed: {mailbox.last_error}")
    return (
        mailbox.address,
        mailbox.persona,
        f"{mailbox.imap_host}:{mailbox.imap_port}" if mailbox.imap_host else "",
        ", ".join(sorted(mailbox.folders)),
        output.duration(mailbox.poll_interval_seconds),
        output.ago(mailbox.last_polled_at) or "never",
        state,
        mailbox.id,
    )
