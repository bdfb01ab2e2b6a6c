"""Limits of parsing: what mails that are made to cost much cost, and what holds of a mail whatever its bytes."""

import time
from hashlib import sha256
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.mail.parsing import MailLimits, ParsedMail, parse, parse_headers
from pipelines.mail.parsing.types import MAX_PROBLEMS
from tests.unit.mail.bombs import BOMBS, PLAIN, multipart, nested_mails, nested_parts

CORPUS = [file.read_bytes() for file in sorted((Path(__file__).parent / "corpus").glob("*.eml"))]
LIMITS = MailLimits()
SMALL = MailLimits(max_bytes=20_000, max_parts=5, max_depth=2, max_attachment_bytes=20, max_text_characters=30)
MOST_SECONDS = 3.0
SPLICES = st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 60), st.binary(max_size=12)), max_size=6)


def texts(mail: ParsedMail) -> list[str]:
    """Return every text that would stand in Postgres."""
    columns = [mail.message_id, mail.in_reply_to, mail.cc, mail.bcc, mail.subject, mail.body_text, mail.body_html]
    columns += [mail.from_email, mail.to_email, *mail.reference_ids, *mail.to_emails, *mail.problems, *mail.headers]
    columns += [value for values in mail.headers.values() for value in values]
    columns += [text for file in mail.attachments for text in (file.name, file.mime_type, file.content_id)]
    return [text for text in columns if text is not None]


def check(mail: ParsedMail, limits: MailLimits) -> None:
    """Assert what holds of every mail: the columns take it, and no limit is passed."""
    for text in texts(mail):
        text.encode()  # refuses surrogates
        assert "\0" not in text
    ids = [one for one in (mail.message_id, mail.in_reply_to, *mail.reference_ids) if one is not None]
    assert all(len(one) <= 998 and one[0] == "<" and one[-1] == ">" for one in ids)
    assert all(len(address) <= 255 for address in (mail.from_email, mail.to_email, *mail.to_emails))
    assert all(len(form or "") <= limits.max_text_characters for form in (mail.body_text, mail.body_html))
    assert len(mail.attachments) <= limits.max_parts + 100
    assert len(mail.problems) <= MAX_PROBLEMS
    assert mail.dated_at is None or mail.dated_at.utcoffset() is not None
    for file in mail.attachments:
        assert 1 <= len(file.name) <= 255
        assert not set(file.name) & set('/\\<>:"|?*')
        assert file.name not in (".", "..")
        assert not [one for one in file.name if category(one) in ("Cc", "Cf", "Cs")]
        assert len(file.mime_type) <= 100
        assert len(file.content) <= limits.max_attachment_bytes
        assert file.checksum == sha256(file.content).digest()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=3_000))
def test_arbitrary_bytes_become_a_mail(data: bytes) -> None:
    for limits in (LIMITS, SMALL):
        check(parse(data, limits), limits)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CORPUS), st.sampled_from(CORPUS), SPLICES)
def test_mutations_of_malformed_mails_become_a_mail(
    one: bytes, other: bytes, splices: list[tuple[int, int, bytes]]
) -> None:
    data = one
    for number, (place, length, given_bytes) in enumerate(splices):
        at = place % (len(data) + 1)
        inserted = other[place : place + length] if number % 2 else given_bytes
        data = data[:at] + inserted + data[at + length :]
    for limits in (LIMITS, SMALL):
        check(parse(data, limits), limits)


@pytest.mark.parametrize("name", BOMBS)
def test_a_mail_made_to_cost_much_costs_little(name: str) -> None:
    data = BOMBS[name]()
    began = time.process_time()
    mail = parse(data, LIMITS)
    assert time.process_time() - began < MOST_SECONDS
    check(mail, LIMITS)
    assert mail.size_bytes == len(data)


def test_parts_above_the_limit_are_left_out_and_told() -> None:
    mail = parse(multipart([PLAIN + b"x"] * 10_000), LIMITS)
    assert (mail.body_text or "").count("x") == LIMITS.max_parts - 1  # the mail itself is one
    assert mail.problems == ("The mail has more than 1000 parts; the rest is left out.",)


def test_parts_too_deep_are_kept_as_one_file() -> None:
    mail = parse(nested_parts(100), LIMITS)
    [file] = mail.attachments
    assert (file.name, file.mime_type) == ("attachment-1.eml", "message/rfc822")
    assert file.content.startswith(b"Content-Type: multipart/mixed; boundary=b50\r\n")
    assert file.content.endswith(b"innermost")
    assert "Parts are nested more than 50 deep; the rest is kept as one file." in mail.problems


def test_a_mail_of_a_hundred_mails_holds_one_file() -> None:
    [file] = parse(nested_mails(100), LIMITS).attachments
    assert file.content.count(b"message/rfc822") == 99
    assert file.content.endswith(b"Subject: innermost\r\n\r\nx")


def test_of_a_mail_that_is_too_large_the_headers_are_kept() -> None:
    data = b"From: ann@example.org\r\nSubject: large\r\n\r\n" + b"x" * 100
    told = ("The mail is larger than 100 bytes; only its headers are kept.",)
    limits = MailLimits(max_bytes=100)
    whole, head = parse(data, limits), parse_headers(data[:43], limits, size_bytes=143)
    for mail in (whole, head):
        assert (mail.subject, mail.from_email, mail.body_text, mail.problems) == (
            "large",
            "ann@example.org",
            None,
            told,
        )
    assert (whole.size_bytes, head.size_bytes) == (len(data), 143)
    assert whole.content_hash == sha256(data).digest()


def test_a_file_and_a_text_above_their_limits_are_told() -> None:
    file = b"Content-Disposition: attachment; filename=a.bin\r\n\r\n" + b"\0" * 21
    mail = parse(multipart([PLAIN + b"y" * 40, file]), SMALL)
    assert (mail.body_text, mail.attachments) == ("y" * 30, ())
    assert mail.problems == (
        "A file is larger than 20 bytes; it is left out.",
        "A text is longer than 30 characters; it is cut.",
    )


def test_headers_without_a_column_are_kept_by_name() -> None:
    data = (
        b"From: Ann <ann@example.org>\r\nSubject: s\r\nX-One: 1\r\nx-one: =?utf-8?q?zw=C3=B6lf?=\r\nDate: today\r\n\r\n"
    )
    headers = parse(data, LIMITS).headers
    assert headers == {"from": ["Ann <ann@example.org>"], "x-one": ["1", "zwölf"], "date": ["today"]}
