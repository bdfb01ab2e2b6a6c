"""What a file is, by its content; names and declared types are only checked against it.

Invariant: whatever `recognise` lets through has the mark of its format or is decodable text. A name never makes binary
content text.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from pipelines.documents.errors import BrokenFileError, EmptyFileError, WrongTypeError
from pipelines.documents.parsing import containers
from pipelines.documents.parsing.decoding import decode, is_binary, is_blank

PLAIN: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS: Final = "application/vnd.ms-excel"
ODT: Final = "application/vnd.oasis.opendocument.text"
ODP: Final = "application/vnd.oasis.opendocument.presentation"
ODS: Final = "application/vnd.oasis.opendocument.spreadsheet"
EPUB: Final = "application/epub+zip"
EML: Final = "message/rfc822"
MSG: Final = "application/vnd.ms-outlook"
RTF: Final = "application/rtf"
CSV: Final = "text/csv"
TSV: Final = "text/tab-separated-values"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonl"
ORG: Final = "text/org"
RST: Final = "text/x-rst"
SOURCE: Final = "text/x-source"
PICTURES: Final = ("image/png", "image/jpeg")
"""Read where scans are."""


@dataclass(frozen=True)
class Format:
    """A format that is read: its name, how its files' names end, and the function of `readers` that reads it."""

    media_type: str
    name: str
    reader: str
    suffixes: tuple[str, ...]
    is_text: bool = True
    """Decoded here; else the reader gets bytes."""
    is_archive: bool = False


_PROGRAMS: Final = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .vue .svelte .java .kt .kts .scala .groovy .c .h .cc .cpp .cxx .hpp",
    ".hh .cs .fs .vb .go .rs .rb .php .pl .pm .lua .r .jl .swift .m .mm .dart .ex .exs .erl .hs .ml .clj .lisp",
    ".el .sh .bash .zsh .fish .ps1 .bat .sql .css .scss .less .xml .xsl .xsd .svg .yaml .yml .toml .ini .cfg",
    ".conf .properties .tf .proto .graphql .tex .bib .cmake .gradle .diff .patch",
)

FORMATS: Final = (
    Format(PLAIN, "plain text", "plain.read", (".txt", ".text", ".log")),
    Format(MARKDOWN, "Markdown", "markup.read_markdown", (".md", ".markdown")),
    Format(HTML, "HTML", "markup.read", (".html", ".htm", ".xhtml")),
    Format(PDF, "PDF", "pdf.read", (".pdf",), is_text=False),
    Format(DOCX, "a Word document", "word.read", (".docx", ".docm", ".dotx"), is_text=False, is_archive=True),
    Format(
        PPTX, "a PowerPoint presentation", "slides.read", (".pptx", ".pptm", ".ppsx"), is_text=False, is_archive=True
    ),
    Format(XLSX, "an Excel workbook", "sheets.read", (".xlsx", ".xlsm", ".xlsb"), is_text=False, is_archive=True),
    Format(XLS, "an old Excel workbook", "sheets.read", (".xls",), is_text=False),
    Format(ODT, "an OpenDocument text", "opendocument.read", (".odt",), is_text=False, is_archive=True),
    Format(ODP, "an OpenDocument presentation", "opendocument.read", (".odp",), is_text=False, is_archive=True),
    Format(ODS, "an OpenDocument spreadsheet", "sheets.read", (".ods",), is_text=False, is_archive=True),
    Format(EPUB, "an EPUB", "epub.read", (".epub",), is_text=False, is_archive=True),
    Format(EML, "a message", "mail.read", (".eml",), is_text=False),
    Format(MSG, "an Outlook message", "mail.read_msg", (".msg",), is_text=False),
    Format(RTF, "an RTF document", "rtf.read", (".rtf",), is_text=False),
    Format(CSV, "CSV", "records.read", (".csv",)),
    Format(TSV, "TSV", "records.read", (".tsv", ".tab")),
    Format(JSON, "JSON", "records.read_json", (".json", ".geojson")),
    Format(JSON_LINES, "JSON lines", "records.read_json", (".jsonl", ".ndjson")),
    Format(ORG, "Org", "outline.read", (".org",)),
    Format(RST, "reStructuredText", "outline.read_rst", (".rst", ".rest")),
    Format(SOURCE, "source code", "program.read", tuple(" ".join(_PROGRAMS).split())),
)
READ: Final = (
    "text, Markdown, HTML, PDF, Office and OpenDocument files, EPUB, messages, RTF, CSV, JSON, Org, reStructuredText "
    "and source code"
)

_BY_TYPE: Final = {known.media_type: known for known in FORMATS}
_SUFFIXES: Final = {suffix: known.media_type for known in FORMATS for suffix in known.suffixes} | {
    # Known, so that it can be said what a file is not, and not read.
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".zip": "application/zip",
    ".gz": "application/gzip",
    ".doc": "application/msword",
    ".ppt": "application/vnd.ms-powerpoint",
}

_PICTURES: Final = (
    (b"\x89PNG\r\n", Format("image/png", "a PNG image", "pictures.read", (".png",), is_text=False)),
    (b"\xff\xd8\xff", Format("image/jpeg", "a JPEG image", "pictures.read", (".jpg", ".jpeg"), is_text=False)),
)
MARKS: Final = (
    *((mark, known.media_type, known.name) for mark, known in _PICTURES),
    (b"GIF8", "image/gif", "a GIF image"),
    (b"PK\x05\x06", "application/zip", "an empty ZIP archive"),
    (b"\x1f\x8b", "application/gzip", "gzip-compressed"),
    (b"BZh", "application/x-bzip2", "bzip2-compressed"),
    (b"\xfd7zXZ\x00", "application/x-xz", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd", "zstandard-compressed"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", "a 7-Zip archive"),
    (b"\x7fELF", "application/x-elf", "a program"),
    (b"MZ\x90", "application/vnd.microsoft.portable-executable", "a program"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3", "an SQLite database"),
    (b"%!PS", "application/postscript", "PostScript"),
)
"""How content begins that is no text: the mark, its media type, and what it is called."""

_ALIASES: Final = {"application/xhtml+xml": HTML, "text/x-markdown": MARKDOWN, "application/x-ndjson": JSON_LINES}
_HTML_START: Final = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.I)
_SAMPLE: Final = 1 << 16


def media_type_of(name: str) -> str | None:
    """Return the type that a file's name claims, None where the ending says nothing to us."""
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def is_read(name: str) -> bool:
    """Tell whether a file's name claims a format that is read."""
    return media_type_of(name) in _BY_TYPE


def recognise(data: bytes, claimed: str | None, *, reads_pictures: bool = False) -> tuple[Format, str]:
    """Return the format by content, and the decoded text (empty for what is no text).

    `claimed` is the type that the name or the producer states. It chooses between the text formats, which no content
    tells apart for sure; elsewhere content wins, and a claim that content contradicts is refused:
    EmptyFileError, WrongTypeError, EncryptedFileError.
    """
    if not data:
        raise EmptyFileError("The file is empty; ingest a file that has content.")
    claim = (claimed or "").partition(";")[0].strip().lower() or None
    if (marked := _by_mark(data, claim, reads_pictures=reads_pictures)) is not None:
        return marked, ""
    found: str | None
    if data.startswith(b"PK\x03\x04"):
        media_type, found = _in_archive(data, claim), "a ZIP archive of no format that is read"
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        media_type, found = containers.in_compound(data), "an old Office document"
    else:
        media_type, found = None, next((name for mark, _, name in MARKS if data.startswith(mark)), None)
        if found is None and (claim == EML or not is_binary(data)):
            return _text_format(data, claim)
    if media_type in _BY_TYPE:
        return _BY_TYPE[media_type], ""
    found = found or "binary data of no known kind"
    says = f"The file says {_called(claim)}, but its content is {found}" if claim else f"The file is {found}"
    raise WrongTypeError(f"{says}; Greenroom reads {READ}. Convert it first.")


def _in_archive(data: bytes, claim: str | None) -> str | None:
    try:
        return containers.in_archive(data)
    except BrokenFileError:
        known = _BY_TYPE.get(claim or "")
        if known is not None and known.is_archive:
            raise
        return None  # whatever it was, it is not what it says


def _by_mark(data: bytes, claim: str | None, *, reads_pictures: bool) -> Format | None:
    # Readers accept leading bytes before a PDF's mark; only a claim of PDF makes that worth looking for.
    if data.lstrip()[:5] == b"%PDF-" or (claim == PDF and b"%PDF-" in data[:1024]):
        return _BY_TYPE[PDF]
    if data.startswith(b"{\\rtf"):
        return _BY_TYPE[RTF]
    return next((known for mark, known in _PICTURES if reads_pictures and data.startswith(mark)), None)


def _text_format(data: bytes, claim: str | None) -> tuple[Format, str]:
    text = decode(data)
    if is_blank(text):
        raise EmptyFileError("The file holds nothing but blank space; ingest a file that has content.")
    is_html = begins_as_html(text)
    known = _BY_TYPE.get(_ALIASES.get(claim or "", claim or ""))
    if known is not None and known.media_type == EML:
        return known, ""
    if claim in _SUFFIXES.values() and (known is None or not known.is_text):
        found = _BY_TYPE[HTML if is_html else PLAIN].name
        raise WrongTypeError(f"The file says {_called(claim)}, but its content is {found}; rename or replace it.")
    if known is None or known.media_type in (PLAIN, MARKDOWN):
        known = _BY_TYPE[HTML] if is_html else known or _BY_TYPE[PLAIN]
    return known, text


def begins_as_html(text: str) -> bool:
    """Tell whether a text begins as HTML does; remarks may stand before it."""
    return _HTML_START.match(_behind_remarks(text[:_SAMPLE])) is not None


def _behind_remarks(text: str) -> str:
    """Return the text from its first tag on: blanks, an XML declaration and remarks may stand before it."""
    rest = text.lstrip()
    while True:
        end = "-->" if rest.startswith("<!--") else "?>" if rest[:5].lower() == "<?xml" else None
        if end is None or end not in rest:
            return rest
        rest = rest.partition(end)[2].lstrip()


def _called(claim: str | None) -> str:
    known = _BY_TYPE.get(claim or "")
    return known.name if known else claim or ""


def check_pdf_ends(data: bytes) -> bool:
    """Tell whether a PDF has its end mark where the format wants it; trailing blank bytes do not count."""
    return b"%%EOF" in data.rstrip(b"\0\r\n\t ")[-1024:]


def too_odd(kind: str) -> BrokenFileError:
    """Return the error for a file that its parser stumbles over."""
    return BrokenFileError(f"The {kind} is damaged and cannot be read; save it anew with another program.")
