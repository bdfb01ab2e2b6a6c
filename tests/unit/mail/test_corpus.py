"""Malformed mails, each with what is to come of it beside it: written by hand from its bytes."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.mail.parsing import MailLimits, ParsedAttachment, ParsedMail, parse

CORPUS = Path(__file__).parent / "corpus"
MAILS = sorted(CORPUS.glob("*.eml"))
LEAST = 75


def told(mail: ParsedMail) -> dict[str, Any]:
    """Return a mail's values under the names of the expectations, with nothing where there is nothing."""
    return {
        "subject": mail.subject,
        "from": mail.from_email,
        "to": list(mail.to_emails),
        "cc": mail.cc or "",
        "bcc": mail.bcc or "",
        "text": mail.body_text,
        "html": mail.body_html,
        "message_id": mail.message_id or "",
        "in_reply_to": mail.in_reply_to or "",
        "references": list(mail.reference_ids),
        "date": mail.dated_at.isoformat() if mail.dated_at else "",
        "is_bounce": mail.is_bounce,
        "is_auto_reply": mail.is_auto_reply,
        "problems": list(mail.problems),
        "attachments": [file_told(file) for file in mail.attachments],
    }


def file_told(file: ParsedAttachment) -> dict[str, Any]:
    said = {
        "name": file.name,
        "mime_type": file.mime_type,
        "size": len(file.content),
        "sha256": file.checksum.hex(),
        "is_inline": file.is_inline,
    }
    return said | ({"content_id": file.content_id} if file.content_id else {})


NOTHING: dict[str, Any] = {
    "subject": None, "text": None, "html": None, "cc": "", "bcc": "", "message_id": "", "in_reply_to": "",
    "references": [], "date": "", "is_bounce": False, "is_auto_reply": False, "attachments": [],
}  # fmt: skip


def test_each_mail_of_the_corpus_says_what_is_to_come_of_it() -> None:
    assert len(MAILS) >= LEAST
    assert [file.stem for file in MAILS] == sorted(file.stem for file in CORPUS.glob("*.toml"))


@pytest.mark.parametrize("file", MAILS, ids=lambda file: str(file.stem))
def test_a_malformed_mail_becomes_what_its_bytes_say(file: Path) -> None:
    expected = NOTHING | tomllib.loads(file.with_suffix(".toml").read_text(encoding="utf-8"))
    assert told(parse(file.read_bytes(), MailLimits())) == expected
