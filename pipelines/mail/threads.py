"""Which mails belong together: by References, by In-Reply-To, and by the subject where a mail has neither."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pipelines.mail.parsing.types import ParsedMail
from pipelines.mail.texts import one_line

SUBJECT_SPAN: Final = timedelta(days=30)
"""How far apart mails of one subject, with an address in common, are one thread."""

MAX_SUBJECT: Final = 500

_REPLY: Final = (
    "re|aw|antw|antwort|sv|vs|rv|odp|r|rif|ref|réf|rép|res|resp|ynt|回复|回覆|答复|答覆|atb|vá|bls|σχετ|απ|на|ответ|отв"
)
_FORWARD: Final = "fwd?|wg|tr|enc|i|pd|doorst|vl|vb|rv|转发|轉寄|转寄|továbbítás|iletimesaj|ilt|ht|πρθ|пересл"
_MARK: Final = r"\s*+(?:[\[(]\d{1,4}[\])]|\^\d{1,4}|\*\d{1,4}|\d{1,2})?\s*+[:\uff1a]\s*+"
_REPLIED: Final = re.compile(rf"(?:\[[^\[\]]{{1,80}}\]\s*+)*+(?:{_REPLY}){_MARK}", re.IGNORECASE)
_PREFIX: Final = re.compile(rf"(?:{_REPLY}|{_FORWARD}){_MARK}|\[[^\[\]]{{1,80}}\]\s*+", re.IGNORECASE)
_TRAILED: Final = re.compile(r"\s*\((?:fwd?|was:[^()]*)\)$", re.IGNORECASE)


def candidates(mail: ParsedMail) -> list[str]:
    """Return the message ids that a mail's thread is known by, the nearest first: the parent, its parent, and so on."""
    named = [*reversed(mail.reference_ids), *([mail.in_reply_to] if mail.in_reply_to else [])]
    return [one for one in dict.fromkeys(named) if one != mail.message_id]


def root_of(mail: ParsedMail) -> str | None:
    """Return the message id that began a mail's thread, as far as the mail itself knows."""
    named = [*mail.reference_ids, *([mail.in_reply_to] if mail.in_reply_to else [])]
    return next((one for one in named if one != mail.message_id), mail.message_id)


def thread_of(mail: ParsedMail, known: Mapping[str, str]) -> str | None:
    """Return a mail's thread id: that of the nearest mail that is known, else what began it.

    `known` holds thread ids by message ids, at least for those of `candidates` that the mailbox has.
    """
    return next((known[one] for one in candidates(mail) if one in known), None) or root_of(mail)


def normalise_subject(subject: str) -> str:
    """Return a subject without Re:, AW:, Fwd: and the names of lists, for comparison: empty where nothing is left."""
    text = one_line(subject)[:MAX_SUBJECT]
    while (found := _PREFIX.match(text)) and found.end():
        text = text[found.end() :]
    while found := _TRAILED.search(text):
        text = text[: found.start()]
    return text.strip().casefold()


def is_reply_subject(subject: str) -> bool:
    """Tell whether a subject says that the mail answers another one; a forwarded mail begins a thread of its own."""
    return _REPLIED.match(one_line(subject)[:MAX_SUBJECT]) is not None
