"""One book in four formats: the Debian Policy Manual, whose sentences are found in what each of its files is read as.

The sentences are those of the paragraphs of its HTML, taken without any of our readers. What is not found are sentences
with a note's mark or a printed link address amid them, and, in the PDF, those that go on behind notes and page heads.
"""

import gzip
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lxml.html
import pytest

from pipelines.documents.parsing import ParserProcess, media_type_of
from tests.integration.documents.parsed import limits_of

_FOLDER = Path("/usr/share/doc/debian-policy")
# Lists of words, not sentences; the other pages are the book.
_INDEXES = ("genindex.html", "search.html")
_ENOUGH = 0.98
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z“\"(])")
_LEAST_WORDS = 4


@pytest.fixture(scope="module")
def folder() -> Path:
    if not (_FOLDER / "policy.pdf.gz").exists():
        assert os.environ.get("CI") != "true", "CI has the book: .ci/system-parts installs it"
        pytest.skip("needs Debian's package debian-policy")
    return _FOLDER


def pages(folder: Path) -> list[Path]:
    return [page for page in sorted((folder / "policy.html").glob("*.html")) if page.name not in _INDEXES]


@cache
def sentences(folder: Path) -> tuple[str, ...]:
    """The sentences of the book's paragraphs, without the marks that lead to its notes."""
    return tuple(sentence for page in pages(folder) for sentence in sentences_of(page))


def sentences_of(page: Path) -> Iterator[str]:
    [main] = lxml.html.parse(page).getroot().xpath("//div[@role='main']")
    for mark in main.xpath(".//a[contains(@class, 'footnote-reference') or contains(@class, 'headerlink')]"):
        mark.drop_tree()
    for paragraph in main.iter("p"):
        for sentence in _SENTENCE_END.split(" ".join(paragraph.text_content().split())):
            if len(sentence.split()) >= _LEAST_WORDS:
                yield sentence


def words(text: str) -> str:
    """A text as its words alone, one space between them; a hyphen, at the end of a line or not, joins what it parts."""
    plain = unicodedata.normalize("NFKC", text).replace("_", " ")
    plain = re.sub(r"[-\u00ad\u2010]\s*", "", re.sub(r"\[\d+\]", "", plain))
    return " ".join(["", *re.findall(r"\w+", plain), ""])


def read(parser: ParserProcess, path: Path) -> str:
    return parser.parse(path, media_type=media_type_of(path.name), limits=limits_of()).text


@pytest.mark.parametrize("kind", ["html", "txt", "pdf", "epub"])
def test_the_book_says_the_same_in_each_format(folder: Path, parser: ParserProcess, tmp_path: Path, kind: str) -> None:
    if kind == "html":
        text = "\n".join(read(parser, page) for page in pages(folder))
    else:
        path, packed = tmp_path / f"policy.{kind}", folder / f"policy.{kind}.gz"
        path.write_bytes(
            gzip.decompress(packed.read_bytes()) if kind != "epub" else packed.with_suffix("").read_bytes()
        )
        text = read(parser, path)
    known = sentences(folder)
    assert len(known) > 3000
    found = words(text)
    missing = [sentence for sentence in known if words(sentence) not in found]
    assert len(missing) <= (1 - _ENOUGH) * len(known), missing[:20]
