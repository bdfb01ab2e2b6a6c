"""Messages that break the rules of their format, and Outlook's that lie about their parts."""

from pipelines.documents import errors
from tests.integration.documents import files
from tests.integration.documents.hostile.outcome import WICK, Case, reads, refused
from tests.support.compound import compound

_HEAD = b"From: ann@example.org\r\nSubject: Lamp\r\nMIME-Version: 1.0\r\n"
_MULTIPART = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
_LINE = WICK.encode() + b"\r\n"
_PART = b"--b\r\nContent-Type: text/plain\r\n\r\n" + _LINE


def _message(kind: bytes, body: bytes, more: bytes = b"") -> bytes:
    return _HEAD + more + b"Content-Type: " + kind + b"\r\n\r\n" + body


def _nested(levels: int) -> bytes:
    return (_HEAD + b"Content-Type: message/rfc822\r\n\r\n") * levels + _message(b"text/plain", _LINE)


_EML: list[Case] = [
    refused("no headers.eml", "no headers here\n\nat all", errors.BrokenFileError, "none of the headers"),
    reads("a message in a message.eml", _nested(3)),
    refused("a message in 400 messages.eml", _nested(400), errors.BrokenFileError, "more than 10 deep"),
    refused(
        "parts in 300 parts.eml",
        _message(
            b'multipart/mixed; boundary="b0"',
            b"".join(
                b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (n, n + 1) for n in range(300)
            ),
        ),
        errors.BrokenFileError,
        "more than 10 deep",
    ),
    reads("a boundary never closed.eml", _HEAD + _MULTIPART + _PART),
    reads("a boundary that is missing.eml", _HEAD + b"Content-Type: multipart/mixed\r\n\r\n" + _LINE),
    reads("a boundary that never comes.eml", _HEAD + _MULTIPART + _LINE),
    reads("5,000 parts.eml", _HEAD + _MULTIPART + _PART * 5_000 + b"--b--\r\n"),
    reads("a charset that is none.eml", _message(b"text/plain; charset=x-nonsense", _LINE)),
    reads("a charset that runs.eml", _message(b"text/plain; charset=rot13", _LINE), "Lamp"),
    reads("an encoding that is none.eml", _message(b"text/plain", _LINE, b"Content-Transfer-Encoding: x-none\r\n")),
    reads(
        "base64 that is none.eml",
        _message(b"text/plain", b"!!!\r\n" + _LINE, b"Content-Transfer-Encoding: base64\r\n"),
        "Lamp",
    ),
    reads(
        "quoted and not printable.eml",
        _message(b"text/plain", b"=ZZ=\r\n" + _LINE, b"Content-Transfer-Encoding: quoted-printable\r\n"),
    ),
    reads("a subject of a megabyte.eml", _HEAD.replace(b"Lamp", b"x" * 1_000_000) + b"\r\n" + _LINE),
    reads("a subject of encoded words.eml", _HEAD.replace(b"Lamp", b"=?utf-8?q?a?= " * 5_000) + b"\r\n" + _LINE),
    reads("a subject with a line end.eml", _HEAD.replace(b"Lamp", b"=?utf-8?q?a=0AB?=") + b"\r\n" + _LINE),
    reads("a date that is none.eml", _HEAD + b"Date: yesterday, 99:99\r\n\r\n" + _LINE),
    reads("an address that is none.eml", _HEAD + b"To: <<<>>>,,,;;:@\r\n\r\n" + _LINE),
    reads(
        "10,000 receivers.eml",
        _HEAD + b"To: " + b", ".join(b"a%d@example.org" % n for n in range(10_000)) + b"\r\n\r\n" + _LINE,
    ),
    refused(
        "brackets in a type.eml",
        _HEAD + b"Content-Type: " + b"(" * 5_000 + b"\r\n\r\n" + _LINE,
        errors.BrokenFileError,
    ),
    refused(
        "brackets in an encoding.eml",
        _message(b"text/plain", _LINE, b"Content-Transfer-Encoding: " + b"(" * 5_000 + b"\r\n"),
        errors.BrokenFileError,
    ),
    reads("brackets in an address.eml", _HEAD + b"To: " + b"(" * 5_000 + b"\r\n\r\n" + _LINE),
    reads("eight bits and no charset.eml", _HEAD + b"\r\n" + _LINE + b"caf\xe9 \xff\xfe\r\n"),
    reads("zeros.eml", _HEAD + b"\r\n\0\0" + _LINE),
    reads(
        "a program attached.eml",
        _HEAD
        + _MULTIPART
        + _PART
        + b"--b\r\nContent-Type: application/x-msdownload\r\n"
        + b'Content-Disposition: attachment; filename="../../a.exe"\r\n\r\nMZevil\r\n--b--\r\n',
        lacks="MZevil",
    ),
    reads(
        "a body elsewhere.eml",
        _HEAD
        + _MULTIPART
        + _PART
        + b'--b\r\nContent-Type: message/external-body; access-type=local-file; name="/etc/passwd"\r\n\r\n'
        + b"Content-Type: text/plain\r\n\r\n--b--\r\n",
    ),
    reads("a page that asks a server.eml", _message(b"text/html", b'<img src="http://192.0.2.1/a.png"><p>' + _LINE)),
    reads("headers alone.eml", _HEAD + b"\r\n", "Lamp"),
]

_OUTLOOK = files.outlook()


def _fat_in_a_circle() -> bytes:
    """Return a message whose directory's chain of sectors leads back to its beginning."""
    first = int.from_bytes(_OUTLOOK[48:52], "little")
    fat_at = (int.from_bytes(_OUTLOOK[76:80], "little") + 1) * 512 + 4 * first
    return _OUTLOOK[:fat_at] + first.to_bytes(4, "little") + _OUTLOOK[fat_at + 4 :]


_MSG: list[Case] = [
    refused("cut off.msg", _OUTLOOK[:600], errors.WrongTypeError),
    refused("a head alone.msg", _OUTLOOK[:512], errors.WrongTypeError),
    refused("noise behind the head.msg", _OUTLOOK[:512] + bytes(range(256)) * 20, errors.WrongTypeError),
    refused("no properties.msg", compound({"__nameid_version1.0/x": b"x"}), errors.WrongTypeError),
    refused("properties cut.msg", compound({"__properties_version1.0": b"x" * 7}), errors.NoTextError),
    refused("no body and no sender.msg", compound({"__properties_version1.0": bytes(32)}), errors.NoTextError),
    refused("a directory in a circle.msg", _fat_in_a_circle(), errors.BrokenFileError),
    refused(
        "an old document.doc", compound({"WordDocument": b"x" * 5_000}), errors.WrongTypeError, "old Office document"
    ),
    refused(
        "a locked document.docx",
        compound({"EncryptedPackage": b"x" * 100, "EncryptionInfo": b"y"}),
        errors.EncryptedFileError,
    ),
    refused("a workbook cut.xls", compound({"Workbook": b"\x09\x08\x10\0"}), errors.BrokenFileError),
    refused("a workbook of noise.xls", compound({"Workbook": bytes(range(256)) * 40}), errors.BrokenFileError),
]

CASES: list[Case] = [*_EML, *_MSG]
