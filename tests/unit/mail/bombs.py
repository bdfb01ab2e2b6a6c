"""Mails that are made to cost much: built here, since they are large."""

from collections.abc import Callable, Iterable

PLAIN = b"Content-Type: text/plain\r\n\r\n"
ODD = b"Content-Type: a/b;;;;; name*0*=\"a''" * 20 + b"\r\n\r\nx"
NAMED = b'Content-Type: a/b; name="' + "a\u0301\u0327".encode() * 800 + b'"\r\n\r\nx'
ARCHIVE = b"Content-Type: application/zip\r\n\r\nPK\x03\x04" + b"PK\x01\x02" * 400_000 + b"PK\x05\x06" + b"\0" * 18


def multipart(parts: Iterable[bytes]) -> bytes:
    """Return a mail of these parts, each with its header."""
    inside = b"".join(b"--X\r\n" + part + b"\r\n" for part in parts)
    return b"Subject: bomb\r\nContent-Type: multipart/mixed; boundary=X\r\n\r\n" + inside + b"--X--\r\n"


def nested_parts(count: int) -> bytes:
    """Return a mail of so many parts within each other."""
    head = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
    return b"Subject: bomb\r\n" + b"".join(head % (level, level) for level in range(count)) + b"\r\ninnermost"


def nested_mails(count: int) -> bytes:
    """Return a mail of so many mails within each other."""
    return b"Subject: bomb\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * count + b"Subject: innermost\r\n\r\nx"


def fields(value: bytes, count: int = 16) -> bytes:
    """Return a mail with a value in so many fields, those with addresses and parameters first."""
    names = [b"To", b"Cc", b"Bcc", b"From", b"Subject", b"References", b"Content-Type", b"Content-Disposition", b"Date"]
    names += [b"X-%d" % number for number in range(count)]
    return b"".join(name + b": " + value + b"\r\n" for name in names) + b"\r\nx"


BOMBS: dict[str, Callable[[], bytes]] = {
    "10,000 parts": lambda: multipart([PLAIN + b"x"] * 10_000),
    "10,000 parts with odd parameters": lambda: multipart([ODD] * 10_000),
    "100 mails within each other": lambda: nested_mails(100),
    "1,000 parts within each other": lambda: nested_parts(1_000),
    "a field of 4 MB": lambda: b"Subject: " + b"a" * 4_000_000,
    "200,000 fields": lambda: b"a: b\r\n" * 200_000,
    "encoded words": lambda: fields(b"=?utf-8?q?a?= =?x?b?====?= " * 1_000),
    "encoded words that never end": lambda: fields(b"=?a?q?" * 10_000),
    "quotes": lambda: fields(b'"' * 60_000),
    "quotes between commas": lambda: fields(b'"' * 301 + b"," * 60_000),
    "comments": lambda: fields(b"(" * 60_000),
    "addresses": lambda: fields(b"a <b@c.org>, " * 4_000),
    "semicolons": lambda: fields(b"a/b" + b";" * 60_000),
    "angles": lambda: fields(b"<" * 60_000),
    "boundaries that are none": lambda: nested_parts(60) + b"\n--b" * 200_000,
    "base64 of paddings": lambda: b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QQ==" * 200_000,
    "uuencoded files": lambda: b"Subject: bomb\r\n\r\n" + b"begin 644 a\n`\nend\n" * 50_000,
    "an archive's directory": lambda: multipart([ARCHIVE]),
    "names of combining characters": lambda: multipart([NAMED] * 100),
    "HTML of tags": lambda: b"Content-Type: text/html\r\n\r\n" + b"<a b=\"<!--<b><p>" * 40_000,
}  # fmt: skip
