"""Files of every format that is read, made here, each with the same few sentences in it."""

import re
import struct
from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

import docx
import pptx
import xlsxwriter

from tests.support.compound import compound

_EPUB_CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)
OFFICE = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
)
_UNICODE = 0x1F


def archive(members: Mapping[str, str | bytes]) -> bytes:
    """Return a ZIP archive."""
    content = BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return content.getvalue()


def word() -> bytes:
    """Return a docx with headings, a list, a table, a footnote's text and a removed sentence."""
    document = docx.Document()
    document.core_properties.title = "The Light"
    document.add_heading("Lamp", 1)
    document.add_paragraph("The keeper trims the wick at dusk.")
    document.add_paragraph("Rape oil", style="List Bullet")
    table = document.add_table(2, 2)
    for row, cells in zip(table.rows, (("part", "weight"), ("lens", "three tonnes")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_heading("Fog", 2)
    document.add_paragraph("The horn sounds twice a minute.")
    content = BytesIO()
    document.save(content)
    return content.getvalue()


def slides(count: int = 1) -> bytes:
    """Return a pptx: a title, two points, a table and notes on each slide."""
    presentation = pptx.Presentation()
    for number in range(count):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = f"Lamp {number + 1}"
        slide.placeholders[1].text = "The keeper trims the wick at dusk.\nRape oil"
        table = slide.shapes.add_table(1, 2, 0, 0, 9_000_000, 900_000).table
        table.cell(0, 0).text, table.cell(0, 1).text = "lens", "three tonnes"
        slide.notes_slide.notes_text_frame.text = "The horn sounds twice a minute."
    content = BytesIO()
    presentation.save(content)
    return content.getvalue()


def workbook(rows: int = 1) -> bytes:
    """Return an xlsx of two sheets, one of them empty, with a formula that refers to another file."""
    content = BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Parts")
        sheet.write_row(0, 0, ["part", "weight", "made"])
        for row in range(rows):
            sheet.write_row(row + 1, 0, ["lens", 3000, "1867"])
        sheet.write_formula(rows + 1, 0, "='[other.xlsx]Sheet1'!$A$1", value="from elsewhere")
        book.add_worksheet("Empty")
    return content.getvalue()


def epub(chapters: dict[str, str] | None = None, *, extra: dict[str, str | bytes] | None = None) -> bytes:
    """Return an EPUB of XHTML chapters."""
    texts = chapters or {
        "one": "<h1>Lamp</h1><p>The keeper trims the wick at dusk.</p>"
        "<table><tr><td>lens</td><td>three tonnes</td></tr></table>",
        "two": "<h2>Fog</h2><p>The horn sounds twice a minute.</p>",
    }
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in texts)
    spine = "".join(f'<itemref idref="{name}"/>' for name in texts)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>The Light</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    pages: dict[str, str | bytes] = {
        f"OEBPS/{name}.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{text}</body></html>'
        for name, text in texts.items()
    }
    head: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": _EPUB_CONTAINER}
    return archive(head | {"OEBPS/book.opf": package} | pages | (extra or {}))


def opendocument(body: str | None = None, kind: str = "text") -> bytes:
    """Return an odt or odp of a content."""
    body = body or (
        '<text:h text:outline-level="1">Lamp</text:h><text:p>The keeper trims<text:s/>the wick at dusk.</text:p>'
        "<text:list><text:list-item><text:p>Rape oil</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>lens</text:p></table:table-cell>"
        "<table:table-cell><text:p>three tonnes</text:p></table:table-cell></table:table-row></table:table>"
        '<text:h text:outline-level="2">Fog</text:h><text:p>The horn sounds twice a minute.</text:p>'
    )
    content = f"<office:document-content {OFFICE}><office:body>{body}</office:body></office:document-content>"
    return archive({"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": content})


def rewritten(content: bytes, member: str, old: str, new: str) -> bytes:
    """Return an archive with a text replaced in one of its members."""
    with ZipFile(BytesIO(content)) as read:
        members = {name: read.read(name) for name in read.namelist()}
    return archive(members | {member: members[member].decode().replace(old, new)})


def without(content: bytes, member: str) -> bytes:
    """Return an Office file without a part, and without what refers to it."""
    with ZipFile(BytesIO(content)) as read:
        members = {name: read.read(name) for name in read.namelist() if name != member}
    for name in ("[Content_Types].xml", "_rels/.rels"):
        text = members[name].decode()
        members[name] = re.sub(rf"<(?:Override|Relationship)\b[^>]*{re.escape(member)}[^>]*/>", "", text).encode()
    return archive(members)


def word_with_a_table_in_a_table() -> bytes:
    """Return a docx of one row, with a table of one cell in its second cell."""
    document = docx.Document()
    table = document.add_table(1, 2)
    table.cell(0, 0).text = "left"
    table.cell(0, 1).text = "outer"
    table.cell(0, 1).add_table(1, 1).cell(0, 0).text = "inner"
    content = BytesIO()
    document.save(content)
    return content.getvalue()


def workbook_with_a_cell_far_away() -> bytes:
    """Return an xlsx with a cell in the first and one in the last place that there are."""
    content = BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Wide")
        sheet.write_string(0, 0, "here")
        sheet.write_string(1_048_575, 16_383, "there")
    return content.getvalue()


def outlook() -> bytes:
    """Return a msg."""
    return compound(
        _properties(
            "", {0x1A: "IPM.Note", 0x37: "Lamp", 0x1000: "The keeper trims the wick at dusk.", 0xC1A: "Ann"}, 32
        )
        | _properties("__recip_version1.0_#00000000/", {0x3001: "Bob", 0x39FE: "bob@example.org"}, 8)
    )


def _properties(folder: str, texts: dict[int, str], head: int) -> dict[str, bytes]:
    tags = {number << 16 | _UNICODE: text.encode("utf-16-le") for number, text in texts.items()}
    listed = b"".join(struct.pack("<IIQ", tag, 6, len(text)) for tag, text in tags.items())
    streams = {f"{folder}__substg1.0_{tag:08X}": text for tag, text in tags.items()}
    return {f"{folder}__properties_version1.0": bytes(head) + listed} | streams


EML = (
    b"From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: Lamp\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>The keeper trims the <b>wick</b> at dusk.</p>\r\n"
    b"--b\r\nContent-Type: application/pdf\r\n"
    b'Content-Disposition: attachment; filename="log.pdf"\r\n\r\nx\r\n'
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: carl@example.org\r\nSubject: Fog\r\n\r\n"
    b"The horn sounds twice a minute.\r\n--b--\r\n"
)
RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl\f0 Arial;}{\info{\title x}}\f0 The keeper trims the {\b wick} at dusk.\par "
    rb"Caf\'e9 \u8364?\par}"
)
ORG = """\
#+TITLE: The Light
* Lamp
The keeper trims the wick at dusk.
** Fog
The horn sounds twice a minute.

- Rape oil
#+begin_src python
code = 1
#+end_src
"""
RST = """\
The Light
=========

The keeper trims the :term:`wick` at dusk.

Fog
---

.. unknown:: x

   Kept all the same.

- Rape oil

::

  code = 1

==== ============
lens three tonnes
==== ============

.. raw:: html

   <b>x</b>

.. include:: /etc/hostname
"""
PROGRAM = """\
import os


class Lamp:
    x = 1

    def trim(self):
        return 1


def horn():
    return 2
"""
