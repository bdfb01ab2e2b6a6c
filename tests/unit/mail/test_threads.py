"""Which mails belong together: what a mail's own headers say of it."""

import time

import pytest

from pipelines.mail.parsing import MailLimits, ParsedMail, parse
from pipelines.mail.threads import candidates, is_reply_subject, normalise_subject, root_of, thread_of


def mail(**fields: str) -> ParsedMail:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return parse(f"{head}\r\nx".encode(), MailLimits())


def test_the_nearest_mail_is_looked_for_first() -> None:
    answer = mail(Message_ID="<4@x>", References="<1@x> <2@x> <3@x>", In_Reply_To="<3@x>")
    assert candidates(answer) == ["<3@x>", "<2@x>", "<1@x>"]
    assert thread_of(answer, {"<1@x>": "<one>", "<2@x>": "<two>"}) == "<two>"
    assert thread_of(answer, {}) == "<1@x>"


def test_in_reply_to_counts_where_references_are_missing_or_others() -> None:
    assert candidates(mail(Message_ID="<2@x>", In_Reply_To="<1@x>")) == ["<1@x>"]
    assert candidates(mail(References="<1@x>", In_Reply_To="<9@x>")) == ["<1@x>", "<9@x>"]


def test_a_mail_that_answers_none_begins_its_thread() -> None:
    assert thread_of(mail(Message_ID="<1@x>"), {"<2@x>": "<2@x>"}) == "<1@x>"
    assert thread_of(mail(Subject="no id"), {}) is None


def test_a_mail_that_answers_itself_is_its_own_root() -> None:
    looped = mail(Message_ID="<1@x>", References="<1@x>", In_Reply_To="<1@x>")
    assert candidates(looped) == []
    assert root_of(looped) == "<1@x>"


@pytest.mark.parametrize(
    ("subject", "bare"),
    [
        ("Offer", "offer"),
        ("Re: Offer", "offer"),
        ("RE: AW: Fwd: Offer", "offer"),
        ("Re[2]: Offer", "offer"),
        ("Re (3) : Offer", "offer"),
        ("[list] Re: [other list] Offer", "offer"),
        ("WG:Antwort:  Offer (fwd)", "offer"),
        ("Réf : Offer", "offer"),
        ("回复\uff1aOffer", "offer"),
        ("Re: Offer (was: Request)", "offer"),
        ("Regarding: Offer", "regarding: offer"),
        ("Reality", "reality"),
        ("re", "re"),
        ("Re: ", ""),
        ("", ""),
        ("Großes  ANGEBOT\r\n heute", "grosses angebot heute"),
    ],
)
def test_subjects_are_compared_without_what_answers_add(subject: str, bare: str) -> None:
    assert normalise_subject(subject) == bare


def test_normalising_twice_changes_nothing() -> None:
    once = normalise_subject("Re: [x] AW: Offer (fwd)")
    assert normalise_subject(once) == once


@pytest.mark.parametrize(
    ("subject", "is_reply"),
    [
        ("Re: x", True), ("AW: x", True), ("[list] Sv: x", True), ("re[4]: x", True), ("Fwd: x", False),
        ("WG: x", False), ("x", False), ("Re x", False), ("", False),
    ],
)  # fmt: skip
def test_an_answer_is_told_by_its_subject(subject: str, is_reply: bool) -> None:
    assert is_reply_subject(subject) is is_reply


@pytest.mark.parametrize(
    "subject", ["Re: " * 100_000, "[" * 200_000, "(fwd)" * 50_000, "[a] " * 50_000, "re " * 100_000]
)
def test_a_long_subject_takes_no_time(subject: str) -> None:
    began = time.process_time()
    normalise_subject(subject)
    is_reply_subject(subject)
    assert time.process_time() - began < 0.5
