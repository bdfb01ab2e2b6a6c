"""Whether a mail is a bounce, or was written by a program that nobody should answer."""

import re
from collections.abc import Iterable
from typing import Final

from pipelines.mail.parsing.fields import Fields
from pipelines.mail.parsing.tree import Part
from pipelines.mail.parsing.types import Problems
from pipelines.mail.parsing.values import words_of

_DAEMON: Final = re.compile(r"(mailer-daemon|postmaster|mail-daemon|mailerdaemon|bounces?)(@|$)", re.IGNORECASE)
_UNDELIVERED: Final = re.compile(
    r"undeliver|not delivered|delivery (?:status|failure|has failed|failed)|returned mail|failure notice|mail delivery|"
    r"unzustellbar|nicht zugestellt|non remis|no entregado",
    re.IGNORECASE,
)
_AWAY: Final = re.compile(
    r"(?:auto(?:matic|matisch|mated)?[- ]?(?:re(?:ply|sponse)|e? ?antwort)|automatische antwort|out of (?:the )?office|"
    r"abwesenheit|réponse automatique|respuesta automática|risposta automatica)\b",
    re.IGNORECASE,
)
_ANSWERED: Final = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-reply", "x-auto-respond")
_LISTS: Final = ("list-id", "list-post", "list-unsubscribe")
_ACTION: Final = re.compile(rb"^action:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)
_MAX_REPORT: Final = 1 << 16


def is_bounce(data: bytes, part: Part, parts: Iterable[Part], from_email: str, subject: str) -> bool:
    """Tell whether a mail says that another one could not be delivered; one that says it was late is none."""
    actions = _actions(data, parts)
    if actions:
        return "failed" in actions
    if part.kind == "multipart/report":
        return part.parameters.get("report-type", "delivery-status").lower() == "delivery-status"
    if _says(part.fields, "x-failed-recipients"):
        return True
    is_daemon = _DAEMON.match(from_email) is not None
    if part.fields.get("return-path").strip() == b"<>":
        return is_daemon or not _answers(part.fields, subject)
    return is_daemon and _UNDELIVERED.search(subject) is not None


def _actions(data: bytes, parts: Iterable[Part]) -> set[str]:
    """Return what became of the recipients, as the delivery reports among the parts say (RFC 3464)."""
    return {
        action.decode("ascii").lower()
        for part in parts
        if part.kind == "message/delivery-status"
        for action in _ACTION.findall(data[part.start : min(part.end, part.start + _MAX_REPORT)])
    }


def is_auto_reply(part: Part, subject: str) -> bool:
    """Tell whether a program wrote the mail: an answer to it would reach nobody (RFC 3834)."""
    is_receipt = part.parameters.get("report-type", "").lower() == "disposition-notification"
    return is_receipt or part.kind == "multipart/report" or _answers(part.fields, subject)


def _answers(fields: Fields, subject: str) -> bool:
    submitted = _says(fields, "auto-submitted").partition(";")[0].strip()
    if submitted:
        return submitted != "no"
    if any(_says(fields, name) not in ("", "no") for name in _ANSWERED):
        return True
    precedence = _says(fields, "precedence")
    is_listed = any(_says(fields, name) for name in _LISTS)
    is_answer = bool(_says(fields, "in-reply-to") or _says(fields, "references"))
    if precedence == "auto_reply" or (precedence in ("bulk", "junk") and is_answer and not is_listed):
        return True
    return _AWAY.match(subject) is not None


def _says(fields: Fields, name: str) -> str:
    return words_of(fields.get(name), Problems()).split(" (")[0].lower()
