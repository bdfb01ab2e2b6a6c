"""Archives that lie, and Office, OpenDocument and EPUB files that are hollow, endless, or point elsewhere."""

import io
import struct
import zipfile

from pipelines.documents import errors
from tests.integration.documents import files
from tests.integration.documents.hostile.outcome import EXTERNAL, LAUGHS, WICK, Case, reads, refused

_WORD = files.word()
_BOOK = files.workbook()
_SLIDES = files.slides()
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_TEMPLATE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate"


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with(content: bytes, changed: dict[str, str | bytes]) -> bytes:
    """Return an archive with members changed or added."""
    return files.archive({**_members(content), **changed})


def _document(body: str, before: str = "") -> bytes:
    """Return a docx with another body."""
    text = f'{before}<w:document {_W} xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><w:body>{body}</w:body></w:document>'
    return _with(_WORD, {"word/document.xml": text})


def _paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def _patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Return an archive with bytes changed in every one of its headers of a kind."""
    changed = bytearray(content)
    at = content.find(signature)
    while at >= 0:
        changed[at + offset : at + offset + len(value)] = value
        at = content.find(signature, at + 4)
    return bytes(changed)


_CENTRAL, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_STORED = files.archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "<x/>"})


def _sheet(rows: str, shared: str = "") -> bytes:
    """Return an xlsx with other rows in its first sheet."""
    sheet = f'<worksheet xmlns="{_SHEET}"><dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData></worksheet>'
    members: dict[str, str | bytes] = {"xl/worksheets/sheet1.xml": sheet}
    if shared:
        members["xl/sharedStrings.xml"] = f'<sst xmlns="{_SHEET}">{shared}</sst>'
    return _with(_BOOK, members)


_TEXT_CELL = f'<row r="1"><c r="A1" t="inlineStr"><is><t>{WICK}</t></is></c></row>'

_ARCHIVES: list[Case] = [
    refused(
        "a bomb.docx",
        files.archive({"[Content_Types].xml": "<x/>", "word/document.xml": b"\0" * 6_000_000}),
        errors.TooLargeError,
        "unpacks to",
    ),
    refused(
        "20,001 parts.docx",
        files.archive({f"word/{n}": "" for n in range(20_001)} | {"[Content_Types].xml": ""}),
        errors.TooLargeError,
    ),
    refused("a program.docx", b"MZ\x90\0" + b"\0" * 500, errors.WrongTypeError, "a program"),
    refused("plain text.docx", "only text", errors.WrongTypeError),
    refused("nothing.docx", b"", errors.EmptyFileError),
    refused("cut off.docx", _WORD[:2_000], errors.BrokenFileError, "cut off"),
    refused("an archive of texts.zip", files.archive({"a.txt": WICK}), errors.WrongTypeError),
    refused("an archive of nothing.docx", files.archive({}), errors.WrongTypeError, "empty ZIP"),
    refused(
        "parts that need a password.odt",
        _patched(_patched(files.opendocument(), _CENTRAL, 8, b"\x01\0"), _LOCAL, 6, b"\x01\0"),
        errors.EncryptedFileError,
    ),
    refused(
        "a method nobody knows.docx",
        _patched(_patched(_WORD, _CENTRAL, 10, b"\x63\0"), _LOCAL, 8, b"\x63\0"),
        errors.BrokenFileError,
    ),
    refused("wrong checksums.docx", _patched(_WORD, _CENTRAL, 16, b"\0\0\0\0"), errors.BrokenFileError),
    refused(
        "sizes that lie.odt", _patched(files.opendocument(), _CENTRAL, 24, struct.pack("<I", 5)), errors.WrongTypeError
    ),
    refused("sizes of four gigabytes.docx", _patched(_WORD, _CENTRAL, 24, b"\xfe\xff\xff\xff"), errors.TooLargeError),
    refused("junk before the archive.odt", b"junk" * 9 + files.opendocument(), errors.WrongTypeError),
    reads("paths that lead out.docx", _with(_WORD, {"../../../etc/x": "x", "/etc/y": "y", "word/\n\r": "z"})),
    reads("a remark of 60 kB.docx", _WORD[:-2] + struct.pack("<H", 60_000) + b"x" * 60_000),
]

_WORDS: list[Case] = [
    refused(
        "hollow.docx",
        files.archive({"[Content_Types].xml": "<x/>", "word/document.xml": "<x/>"}),
        errors.BrokenFileError,
    ),
    refused("no text.docx", _document(""), errors.NoTextError),
    refused(
        "half of its XML.docx",
        _with(_WORD, {"word/document.xml": _members(_WORD)["word/document.xml"][:900]}),
        errors.BrokenFileError,
    ),
    refused("relations that are none.docx", _with(_WORD, {"_rels/.rels": "<x"}), errors.BrokenFileError),
    refused("entities that grow.docx", _document(_paragraph(f"{WICK} &k;"), LAUGHS), errors.BrokenFileError),
    reads("an entity from a file.docx", _document(_paragraph(f"{WICK} &a;"), EXTERNAL)),
    reads(
        "tables in tables.docx",
        _document("<w:tbl><w:tr><w:tc>" * 60 + _paragraph(WICK) + "</w:tc></w:tr></w:tbl>" * 60),
    ),
    reads("20,000 paragraphs.docx", _document(_paragraph("x") * 20_000 + _paragraph(WICK))),
    reads(
        "a style that is none.docx",
        _document(f'<w:p><w:pPr><w:pStyle w:val="Nobody"/></w:pPr><w:r><w:t>{WICK}</w:t></w:r></w:p>'),
    ),
    reads(
        "a link that is none.docx",
        _document(f'<w:p><w:hyperlink r:id="rId999"><w:r><w:t>{WICK}</w:t></w:r></w:hyperlink></w:p>'),
    ),
    reads(
        "a template elsewhere.docx",
        _with(
            _WORD,
            {
                "word/_rels/settings.xml.rels": f'<Relationships xmlns="{_PACKAGE}">'
                f'<Relationship Id="r1" Type="{_TEMPLATE}" Target="http://192.0.2.1/a.dotm" TargetMode="External"/>'
                "</Relationships>"
            },
        ),
    ),
    reads(
        "a field of a file.docx",
        _document(
            f'<w:p><w:fldSimple w:instr="INCLUDETEXT /etc/passwd"><w:r><w:t>{WICK}</w:t></w:r></w:fldSimple></w:p>'
        ),
    ),
]

_SHEETS: list[Case] = [
    refused(
        "hollow.xlsx", files.archive({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}), errors.BrokenFileError
    ),
    refused("a cell far away.xlsx", files.workbook_with_a_cell_far_away(), errors.DocumentRefusedError),
    refused(
        "half of its XML.xlsx",
        _with(_BOOK, {"xl/worksheets/sheet1.xml": "<worksheet><sheetData><row"}),
        errors.BrokenFileError,
    ),
    refused(
        "texts that are missing.xlsx",
        _sheet('<row r="1"><c r="A1" t="s"><v>99999</v></c></row>', "<si><t>x</t></si>"),
        errors.BrokenFileError,
    ),
    reads("a dimension that lies.xlsx", _sheet(_TEXT_CELL)),
    reads("links to other files.xlsx", _BOOK, "from elsewhere"),
    refused("an entity that nobody made.xlsx", _sheet(_TEXT_CELL, "<si><t>&k;</t></si>"), errors.BrokenFileError),
    reads(
        "errors in cells.xlsx",
        _sheet(
            '<row r="1"><c r="A1" t="e"><v>#REF!</v></c></row>' + _TEXT_CELL.replace('"1"', '"2"').replace("A1", "A2")
        ),
    ),
    reads(
        "dates beyond all.xlsx",
        _sheet(
            '<row r="1"><c r="A1" s="0"><v>1e300</v></c></row>' + _TEXT_CELL.replace('"1"', '"2"').replace("A1", "A2")
        ),
    ),
    refused("an empty sheet.xlsx", _sheet(""), errors.NoTextError),
]

_OPEN: list[Case] = [
    refused(
        "no body.odt",
        files.archive({"mimetype": "application/vnd.oasis.opendocument.text"}),
        errors.BrokenFileError,
        "missing or damaged",
    ),
    refused("half of its XML.odt", files.opendocument("<text:p>"), errors.BrokenFileError, "well-formed"),
    refused("blanks.odt", files.opendocument("<text:p> </text:p>"), errors.NoTextError),
    reads(
        "a million blanks.odt", files.opendocument(f'<text:p>{WICK}<text:s text:c="1000000000"/></text:p>'), most=500
    ),
    reads(
        "cells without end.odt",
        files.opendocument(
            f'<text:p>{WICK}</text:p><table:table><table:table-row table:number-rows-repeated="1048576">'
            '<table:table-cell table:number-columns-repeated="16384"><text:p>x</text:p></table:table-cell>'
            "</table:table-row></table:table>"
        ),
        most=2_000,
    ),
    reads(
        "spans in spans.odt",
        files.opendocument("<text:p>" + "<text:span>" * 200 + WICK + "</text:span>" * 200 + "</text:p>"),
    ),
    refused(
        "spans without end.odt",
        files.opendocument("<text:p>" + "<text:span>" * 20_000 + WICK + "</text:span>" * 20_000 + "</text:p>"),
        errors.BrokenFileError,
        "well-formed",
    ),
    reads(
        "numbers that are none.odt",
        files.opendocument(
            '<text:h text:outline-level="-7">a</text:h><text:h text:outline-level="\u00b2">b</text:h>'
            f'<text:p>{WICK}<text:s text:c="\u00b3"/></text:p>'
        ),
    ),
    refused(
        "entities that grow.odt",
        files.archive(
            {
                "mimetype": "application/vnd.oasis.opendocument.text",
                "content.xml": f"{LAUGHS}<x {files.OFFICE}><text:p>{WICK} &k;</text:p></x>",
            }
        ),
        errors.BrokenFileError,
        "well-formed",
    ),
    reads(
        "an object of a file.odt",
        files.opendocument(
            f'<text:p>{WICK}<draw:frame><draw:object xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="file:///etc/passwd"/></draw:frame></text:p>'
        ),
    ),
]

_BOOKS: list[Case] = [
    refused(
        "no container.epub",
        files.archive({"mimetype": "application/epub+zip"}),
        errors.BrokenFileError,
        "missing or damaged",
    ),
    refused(
        "a container that leads out.epub",
        files.epub(
            extra={
                "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
                '<rootfiles><rootfile full-path="../../../etc/passwd"/></rootfiles></container>'
            }
        ),
        errors.BrokenFileError,
        "missing or damaged",
    ),
    refused("2,001 chapters.epub", files.epub({f"c{n}": "<p>x</p>" for n in range(2_001)}), errors.TooManyPagesError),
    refused(
        "locked.epub",
        files.epub(
            extra={
                "META-INF/encryption.xml": '<e xmlns:x="http://www.w3.org/2001/04/xmlenc#"><x:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></e>'
            }
        ),
        errors.EncryptedFileError,
    ),
    refused("chapters of nothing.epub", files.epub({"one": ""}), errors.NoTextError),
    reads("a chapter that is no XML.epub", files.epub({"one": f"<p>{WICK}", "two": "</p></p><b>"})),
    reads(
        "an entity from a file.epub",
        files.epub(extra={"OEBPS/one.xhtml": f"{EXTERNAL}<html><body><p>{WICK} &a;</p></body></html>"}),
    ),
    reads("a table of contents cut off.epub", files.epub(extra={"OEBPS/toc.ncx": "<ncx"})),
    reads(
        "a chapter a thousand times.epub",
        files.rewritten(files.epub(), "OEBPS/book.opf", '<itemref idref="one"/>', '<itemref idref="one"/>' * 1_000),
        most=200_000,
    ),
    reads("a script.epub", files.epub({"one": f"<p>{WICK}</p><script>evil()</script>"}), lacks="evil"),
]

_DECKS: list[Case] = [
    refused(
        "a slide that is missing.pptx",
        files.archive({name: data for name, data in _members(_SLIDES).items() if name != "ppt/slides/slide1.xml"}),
        errors.BrokenFileError,
    ),
    refused("half of its XML.pptx", _with(_SLIDES, {"ppt/slides/slide1.xml": "<p:sld"}), errors.BrokenFileError),
    refused(
        "hollow.pptx",
        files.archive({"[Content_Types].xml": "<x/>", "ppt/presentation.xml": "<x/>"}),
        errors.BrokenFileError,
    ),
]

CASES: list[Case] = [*_ARCHIVES, *_WORDS, *_SHEETS, *_OPEN, *_BOOKS, *_DECKS]
