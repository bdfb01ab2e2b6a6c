"""What a file is, by its content; names and declared types are only checked against it.

Invariant: whatever `recognise` lets through is a PDF or decodable text. A name never makes binary content text.
"""

import re
from pathlib import PurePath
from typing import Final

from pipelines.documents.errors import BrokenFileError, EmptyFileError, WrongTypeError

PLAIN: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
PDF: Final = "application/pdf"

_NAMES: Final = {PLAIN: "plain text", MARKDOWN: "Markdown", HTML: "HTML", PDF: "PDF"}

_SUFFIXES: Final = {
    ".txt": PLAIN,
    ".text": PLAIN,
    ".log": PLAIN,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".zip": "application/zip",
    ".gz": "application/gzip",
    ".epub": "application/epub+zip",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".rtf": "application/rtf",
}

_BINARY_MARKS: Final = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"PK\x03\x04", "a ZIP archive (office documents and EPUB are such)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\xfd7zXZ\x00", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstandard-compressed"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%!PS", "PostScript"),
)

_HTML_START: Final = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.I)
_META_CHARSET: Final = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.I)
_SAMPLE: Final = 1 << 16
# Control characters that no text holds. NUL is judged apart: a text may have strayed ones, which become U+FFFD.
_CONTROLS: Final = re.compile("[\x01-\x07\x0e-\x1a\x1c-\x1f]")


def media_type_of(name: str) -> str | None:
    """Return the type that a file's name claims, None where the ending says nothing to us."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def recognise(data: bytes, claimed: str | None) -> tuple[str, str]:
    """Return the media type by content, and the decoded text (empty for a PDF).

    `claimed` is the type that the name or the producer states. It chooses between the text formats, which no content
    tells apart for sure; elsewhere content wins, and a claim that content contradicts is refused:
    EmptyFileError, WrongTypeError.
    """
    if not data:
        raise EmptyFileError("The file is empty; ingest a file that has content.")
    claim = (claimed or "").partition(";")[0].strip().lower() or None
    # Readers accept leading bytes before a PDF's mark; only a claim of PDF makes that worth looking for.
    if data.lstrip()[:5] == b"%PDF-" or (claim == PDF and b"%PDF-" in data[:1024]):
        return PDF, ""
    binary = next((name for mark, name in _BINARY_MARKS if data.startswith(mark)), None)
    if binary is None and not _is_binary(data):
        return _text_type(data, claim)
    found = binary or "binary data of no known kind"
    says = f"The file says {_called(claim)}, but its content is {found}" if claim else f"The file is {found}"
    raise WrongTypeError(f"{says}; Greenroom reads text, Markdown, HTML and PDF. Convert it first.")


def _text_type(data: bytes, claim: str | None) -> tuple[str, str]:
    text = _decode(data)
    if not text.strip():
        raise EmptyFileError("The file holds nothing but blank space; ingest a file that has content.")
    is_html = _HTML_START.match(_behind_remarks(text[:_SAMPLE])) is not None
    if claim is not None and not claim.startswith("text/") and claim in _SUFFIXES.values():
        found = _NAMES[HTML if is_html else PLAIN]
        raise WrongTypeError(f"The file says {_called(claim)}, but its content is {found}; rename or replace it.")
    if is_html or claim in (HTML, "application/xhtml+xml"):
        return HTML, text
    return (MARKDOWN if claim in (MARKDOWN, "text/x-markdown") else PLAIN), text


def _behind_remarks(text: str) -> str:
    """Return the text from its first tag on: blanks, an XML declaration and remarks may stand before it."""
    rest = text.lstrip()
    while True:
        end = "-->" if rest.startswith("<!--") else "?>" if rest[:5].lower() == "<?xml" else None
        if end is None or end not in rest:
            return rest
        rest = rest.partition(end)[2].lstrip()


def _called(claim: str | None) -> str:
    return _NAMES.get(claim or "", claim or "")


def _is_binary(data: bytes) -> bool:
    """Judge a sample: many control characters or NULs, or bytes that are no text in any encoding that we decode."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False  # UTF-16 with its mark
    sample = data[:_SAMPLE]
    text = sample.decode("utf-8", "replace")
    controls = len(_CONTROLS.findall(text))
    nuls = text.count("\0")
    if "\ufffd" in text:
        return controls * 20 > len(text) or nuls * 50 > len(text)
    # Valid UTF-8 with a third of NULs is UTF-16 without its mark, or a memory image.
    return controls * 5 > len(text) or (nuls * 3 > len(text) and len(text) > 64)


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        # Encoded surrogates pass here and become U+FFFD when the text is normalised.
        return data.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError:
        return _decode_declared(data) or _decode_damaged(data)


def _decode_declared(data: bytes) -> str | None:
    declared = _META_CHARSET.search(data[:2048])
    if declared is None:
        return None
    try:
        return data.decode(declared[1].decode("ascii"), "replace")
    except (LookupError, UnicodeError):
        return None


def _decode_damaged(data: bytes) -> str:
    """UTF-8 with some bad bytes keeps its good characters; what has hardly any UTF-8 in it is a Windows code page."""
    text = data.decode("utf-8-sig", "replace")
    bad = text.count("\ufffd")
    good = sum(1 for character in text[:_SAMPLE] if "\x7f" < character != "\ufffd")
    return text if good >= bad else data.decode("cp1252", "replace")


def check_pdf_ends(data: bytes) -> bool:
    """Tell whether a PDF has its end mark where the format wants it; trailing blank bytes do not count."""
    return b"%%EOF" in data.rstrip(b"\0\r\n\t ")[-1024:]


def too_odd(kind: str) -> BrokenFileError:
    """Return the error for a file that its parser stumbles over."""
    return BrokenFileError(f"The {kind} is damaged and cannot be read; save it anew with another program.")
