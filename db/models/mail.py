"""Mail in and out: mailboxes and how far they were read, e-mails, and files of a mail or of a run (000)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped

from db.models.base import (
    EMAIL,
    Base,
    Created,
    Json,
    JsonList,
    Keyed,
    Tenanted,
    Touched,
    column,
    one_of,
    reference,
    words,
)

_UINT32 = "{0} BETWEEN %d AND 4294967295"
_SHA256 = "length({0}) = 32"


def _whole(side: str) -> CheckConstraint:
    columns = ", ".join(f"{side}_{name}" for name in ("host", "port", "security", "login", "username", "secret_id"))
    return CheckConstraint(f"num_nulls({columns}) IN (0, 6)", name=side)


def _loopback(side: str) -> CheckConstraint:
    """Admit a connection in clear text to this machine alone."""
    local = "'^(localhost|127([.][0-9]{1,3}){3}|::1)$'"
    return CheckConstraint(f"{side}_security <> 'none' OR {side}_host ~ {local}", name=f"{side}_loopback")


class Mailbox(Keyed, Tenanted, Touched, Base):
    """A persona's mailbox: where its mail is read (IMAP), where it is sent (SMTP), or both."""

    __tablename__ = "mailboxes"
    __table_args__ = (
        UniqueConstraint("persona_id", "address", "tenant_id"),
        _whole("imap"),
        _whole("smtp"),
        _loopback("imap"),
        _loopback("smtp"),
        CheckConstraint("num_nonnulls(imap_host, smtp_host) > 0", name="side"),
        Index(
            "mailboxes_due_idx",
            "last_polled_at",
            postgresql_where=text("NOT is_paused AND imap_host IS NOT NULL"),
        ),
    )

    persona_id: Mapped[UUID] = reference("assistants.personas")
    address: Mapped[str] = column(check=EMAIL, comment="The sender of what is sent from here")
    imap_host: Mapped[str | None] = words(255, least=1)
    imap_port: Mapped[int | None] = column(check="{0} BETWEEN 1 AND 65535")
    imap_security: Mapped[str | None] = one_of("tls", "starttls", "none", comment="none: only to this machine")
    imap_login: Mapped[str | None] = one_of("password", "xoauth2")
    imap_username: Mapped[str | None] = words(255, least=1)
    imap_secret_id: Mapped[UUID | None] = reference("vault.secrets", on_delete="RESTRICT")
    smtp_host: Mapped[str | None] = words(255, least=1)
    smtp_port: Mapped[int | None] = column(check="{0} BETWEEN 1 AND 65535")
    smtp_security: Mapped[str | None] = one_of("tls", "starttls", "none", comment="none: only to this machine")
    smtp_login: Mapped[str | None] = one_of("password", "xoauth2")
    smtp_username: Mapped[str | None] = words(255, least=1)
    smtp_secret_id: Mapped[UUID | None] = reference("vault.secrets", on_delete="RESTRICT")
    poll_interval_seconds: Mapped[int] = column(default="60", check="{0} BETWEEN 1 AND 86400")
    rate_limit: Mapped[int | None] = column(check="{0} > 0", comment="Mails sent at most in rate_limit_seconds")
    rate_limit_seconds: Mapped[int] = column(default="3600", check="{0} > 0")
    bodies_to_documents: Mapped[bool] = column(default="false", comment="Bodies become documents, found by search")
    attachments_to_documents: Mapped[bool] = column(default="false")
    collection_id: Mapped[UUID | None] = reference(
        "knowledge.collections", on_delete="SET NULL", comment="Where those documents go"
    )
    is_paused: Mapped[bool] = column(default="false")
    last_polled_at: Mapped[datetime | None] = column()
    last_error: Mapped[str | None] = column(comment="None since the last poll that went well")
    failed_polls: Mapped[int] = column(
        default="0", check="{0} >= 0", comment="In a row: the next comes later with each"
    )


class Folder(Keyed, Tenanted, Touched, Base):
    """How far a mailbox's folder has been read: moved in the transaction that inserts the mails."""

    __tablename__ = "folders"
    __table_args__ = (UniqueConstraint("mailbox_id", "name"),)

    mailbox_id: Mapped[UUID] = reference("mail.mailboxes")
    name: Mapped[str] = words(1000, least=1, is_key=True, default="INBOX", comment="Decoded from modified UTF-7")
    uidvalidity: Mapped[int | None] = column(BigInteger, check=_UINT32 % 1, comment="None: never read")
    last_uid: Mapped[int] = column(
        BigInteger, default="0", check=_UINT32 % 0, comment="The greatest that was read; counts within uidvalidity"
    )


class Email(Keyed, Tenanted, Touched, Base):
    """A mail that a persona received or sends."""

    __tablename__ = "emails"
    __table_args__ = (
        UniqueConstraint("mailbox_id", "folder", "uidvalidity", "uid"),
        CheckConstraint("(direction = 'inbound') = (status = 'received')", name="direction_status"),
        CheckConstraint("num_nulls(folder, uidvalidity, uid) IN (0, 3)", name="place"),
        # The Message-ID and the marker are there before the server is given the mail.
        CheckConstraint("status NOT IN ('sending', 'sent', 'unknown') OR message_id IS NOT NULL", name="identified"),
        CheckConstraint("status NOT IN ('sending', 'unknown') OR sending_at IS NOT NULL", name="marked"),
        CheckConstraint("status <> 'sent' OR sent_at IS NOT NULL", name="sent"),
        Index("emails_message_id_idx", "persona_id", "direction", "message_id"),
        Index("emails_thread_id_idx", "tenant_id", "thread_id"),
        Index("emails_created_at_idx", "tenant_id", "created_at"),
        Index("emails_age_idx", "created_at"),
        Index("emails_persona_id_created_at_idx", "persona_id", "created_at"),
        Index("emails_persona_id_received_at_idx", "persona_id", "received_at"),
        Index("emails_status_idx", "tenant_id", "status"),
        Index("emails_content_hash_idx", "mailbox_id", "content_hash"),
        Index("emails_sending_at_idx", "mailbox_id", "sending_at", postgresql_where=text("sending_at IS NOT NULL")),
        Index(
            "emails_outgoing_idx",
            "status",
            "id",
            postgresql_where=text("status IN ('queued', 'sending', 'unknown')"),
        ),
    )

    persona_id: Mapped[UUID] = reference("assistants.personas")
    run_id: Mapped[UUID | None] = reference("assistants.runs", on_delete="SET NULL")
    mailbox_id: Mapped[UUID | None] = reference("mail.mailboxes", on_delete="SET NULL")
    folder: Mapped[str | None] = words(1000, is_key=True)
    uidvalidity: Mapped[int | None] = column(BigInteger, check=_UINT32 % 1)
    uid: Mapped[int | None] = column(BigInteger, check=_UINT32 % 1)
    direction: Mapped[str] = one_of("inbound", "outbound")
    status: Mapped[str] = one_of(
        "received",
        "queued",
        "sending",
        "sent",
        "failed",
        "unknown",
        comment="sending: the server may have it; unknown: nobody knows, an operator decides",
    )
    message_id: Mapped[str | None] = words(
        998, is_key=True, comment="Made before the first attempt, kept by each later one"
    )
    in_reply_to: Mapped[str | None] = words(998)
    reference_ids: Mapped[list[str]] = column(default="'{}'", comment="Message ids of References, the oldest first")
    thread_id: Mapped[str | None] = column(
        check="length({0}) <= 998 AND octet_length({0}) <= 2000",
        comment="The message id that began it; at most 2,000 bytes: it stands in an index",
    )
    from_email: Mapped[str] = words(255, comment="Empty where a received mail names none")
    to_email: Mapped[str] = words(255, comment="The first of to_emails; empty where a received mail names none")
    to_emails: Mapped[list[str]] = column(default="'{}'", comment="All of To")
    cc: Mapped[str | None] = column(comment="Addresses, separated by commas")
    bcc: Mapped[str | None] = column(comment="Addresses, separated by commas")
    subject: Mapped[str | None] = column()
    body_text: Mapped[str | None] = column()
    body_html: Mapped[str | None] = column(comment="As received; made safe before it is shown")
    headers: Mapped[Json] = column(default="'{}'", comment="Those that have no column")
    problems: Mapped[list[str]] = column(default="'{}'", comment="What could not be read of it, or was left out")
    is_bounce: Mapped[bool] = column(default="false")
    is_auto_reply: Mapped[bool] = column(default="false")
    size_bytes: Mapped[int | None] = column(BigInteger, check="{0} >= 0")
    content_hash: Mapped[bytes | None] = column(
        LargeBinary, check=_SHA256, comment="SHA-256 of the mail as received: known again under another uidvalidity"
    )
    attempt_count: Mapped[int] = column(default="0", check="{0} >= 0")
    error_code: Mapped[int | None] = column(check="{0} BETWEEN 200 AND 599", comment="The server's reply code")
    error_message: Mapped[str | None] = column(comment="The server's words")
    refused: Mapped[JsonList] = column(
        default="'[]'",
        check="jsonb_typeof({0}) = 'array'",
        comment="Recipients that the server refused while it took the mail for others: "
        '[{"email": …, "code": …, "message": …}]',
    )
    dated_at: Mapped[datetime | None] = column(comment="What the mail's Date says")
    received_at: Mapped[datetime | None] = column(comment="When the server had it; of inbound mail")
    sending_at: Mapped[datetime | None] = column(comment="Committed before the server is given the mail")
    sent_at: Mapped[datetime | None] = column(comment="When the server took it; of outbound mail")


class Attachment(Keyed, Tenanted, Created, Base):
    """A file that belongs to a mail, or that a run made."""

    __tablename__ = "attachments"
    __table_args__ = (
        Index("attachments_created_at_idx", "tenant_id", "created_at"),
        Index("attachments_file_path_idx", "tenant_id", "file_path"),
        Index("attachments_file_key_idx", "file_path"),  # COLLATE "C"
    )

    email_id: Mapped[UUID | None] = reference("mail.emails")
    run_id: Mapped[UUID | None] = reference("assistants.runs", on_delete="SET NULL")
    name: Mapped[str] = words(255, least=1, comment="Made safe: no path")
    file_path: Mapped[str] = column(check="octet_length({0}) <= 2000", comment="Where it stands in storage")
    file_size: Mapped[int] = column(BigInteger, check="{0} >= 0", comment="Bytes")
    mime_type: Mapped[str | None] = words(100, comment="By its content")
    checksum: Mapped[bytes | None] = column(LargeBinary, check=_SHA256, comment="SHA-256 of the content")
    content_id: Mapped[str | None] = words(998, comment="By which an HTML body shows it")
    is_inline: Mapped[bool] = column(default="false")
