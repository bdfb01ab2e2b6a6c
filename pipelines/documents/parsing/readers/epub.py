"""EPUB: the chapters in the order of the book's spine, each as HTML."""

import posixpath
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from pipelines.documents.errors import BrokenFileError, EncryptedFileError
from pipelines.documents.parsing.archive import Archive, xml_root
from pipelines.documents.parsing.decoding import decode
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.markup import html_blocks
from pipelines.documents.parsing.types import Block, Reading, Source, check_pages, normalise

_OPF: Final = "{http://www.idpf.org/2007/opf}"
_CONTAINER: Final = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_ENCRYPTION: Final = "{http://www.w3.org/2001/04/xmlenc#}"
# Fonts may be scrambled in a book that anybody may read.
_SCRAMBLED_FONTS: Final = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_TEXTS: Final = ("application/xhtml+xml", "text/html")


def read(source: Source) -> Reading:
    """Read an EPUB."""
    archive = Archive(source.data, source.limits)
    _check_open(archive)
    package = _package(archive)
    root = xml_root(archive.read(package))
    chapters = list(_chapters(root, posixpath.dirname(package)))
    check_pages("book", "chapters", len(chapters), source.limits)
    title = root.find(f".//{_DC}title")
    name = normalise(title.text or "").strip() if title is not None else ""
    return Reading(name or None, _blocks(archive, chapters))


def _blocks(archive: Archive, chapters: list[str]) -> Iterator[Block]:
    # One path of headings over all chapters: a section may run over the end of a file.
    headings = Headings()
    for path in chapters:
        yield from html_blocks(normalise(decode(archive.read(path))), headings)


def _package(archive: Archive) -> str:
    root = xml_root(archive.read("META-INF/container.xml"))
    found = root.find(f".//{_CONTAINER}rootfile")
    path = found.get("full-path") if found is not None else None
    if not path:
        raise BrokenFileError("The EPUB does not say where its contents are; save it again.")
    return str(path)


def _chapters(root: Any, folder: str) -> Iterator[str]:
    texts = {
        item.get("id"): item.get("href") or "" for item in root.iter(f"{_OPF}item") if item.get("media-type") in _TEXTS
    }
    for reference in root.iter(f"{_OPF}itemref"):
        href = texts.get(reference.get("idref"))
        if href:
            yield posixpath.normpath(posixpath.join(folder, unquote(href)))


def _check_open(archive: Archive) -> None:
    if "META-INF/encryption.xml" not in archive.names:
        return
    methods = xml_root(archive.read("META-INF/encryption.xml")).iter(f"{_ENCRYPTION}EncryptionMethod")
    if any(method.get("Algorithm") not in _SCRAMBLED_FONTS for method in methods):
        raise EncryptedFileError("The EPUB is encrypted; ingest one without copy protection.")
