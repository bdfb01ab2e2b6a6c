"""What pretends to be of a format, is broken or means harm says why, and takes nobody along."""

from pathlib import Path

import pytest

from pipelines.documents import errors
from tests.integration.documents import files
from tests.integration.documents.parsed import Parse, texts
from tests.support.compound import compound

WICK = "The keeper trims the wick at dusk."

_BOMB = files.archive({"[Content_Types].xml": "<x/>", "word/document.xml": b"\0" * 6_000_000})
_BAD: list[tuple[str, bytes | str, type[Exception]]] = [
    ("bomb.docx", _BOMB, errors.TooLargeError),
    (
        "many.docx",
        files.archive({f"word/{n}": "" for n in range(20_001)} | {"[Content_Types].xml": ""}),
        errors.TooLargeError,
    ),
    ("program.docx", b"MZ\x90\0" + b"\0" * 500, errors.WrongTypeError),
    ("plain.docx", "only text", errors.WrongTypeError),
    ("empty.docx", b"", errors.EmptyFileError),
    ("cut.docx", files.word()[:2000], errors.WrongTypeError),
    (
        "hollow.docx",
        files.archive({"[Content_Types].xml": "<x/>", "word/document.xml": "<x/>"}),
        errors.BrokenFileError,
    ),
    ("plain.zip", files.archive({"a.txt": "x"}), errors.WrongTypeError),
    ("locked.docx", compound({"EncryptedPackage": b"x" * 100, "EncryptionInfo": b"y"}), errors.EncryptedFileError),
    ("old.doc", compound({"WordDocument": b"x" * 5000}), errors.WrongTypeError),
    ("cut.msg", files.outlook()[:600], errors.WrongTypeError),
    ("no_body.odt", files.archive({"mimetype": "application/vnd.oasis.opendocument.text"}), errors.BrokenFileError),
    ("bad_xml.odt", files.opendocument("<text:p>"), errors.BrokenFileError),
    ("blank.odt", files.opendocument("<text:p> </text:p>"), errors.NoTextError),
    ("no_container.epub", files.archive({"mimetype": "application/epub+zip"}), errors.BrokenFileError),
    (
        "locked.epub",
        files.epub(
            extra={
                "META-INF/encryption.xml": '<e xmlns:x="http://www.w3.org/2001/04/xmlenc#">'
                '<x:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></e>'
            }
        ),
        errors.EncryptedFileError,
    ),
    ("pages.epub", files.epub({f"c{n}": "<p>x</p>" for n in range(2_001)}), errors.TooManyPagesError),
    ("empty.xlsx", files.archive({"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}), errors.BrokenFileError),
    ("deep.json", "[" * 500 + "]" * 500, errors.NoTextError),
    ("deep_values.json", '{"a":' * 500 + "1" + "}" * 500, errors.BrokenFileError),
    ("deeper.json", "[" * 100_000 + "]" * 100_000, errors.BrokenFileError),
    ("broken.json", '{"a": 1', errors.BrokenFileError),
    ("broken.jsonl", '{"a": 1}\nnot json\n', errors.BrokenFileError),
    ("nothing.eml", "no headers here\n\nat all", errors.BrokenFileError),
    ("nothing.rst", ".. comment only\n", errors.NoTextError),
]


@pytest.mark.parametrize(("name", "content", "error"), _BAD, ids=[name for name, _, _ in _BAD])
def test_what_is_broken_says_why_and_takes_nobody_along(
    parse: Parse, name: str, content: bytes | str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        parse(name, content)
    assert str(caught.value).endswith(".")
    assert texts(parse("next.txt", WICK)) == [WICK]


def test_headings_are_bounded_however_deep(parse: Parse) -> None:
    heads = "".join(f'<text:h text:outline-level="{n}">Head {n}</text:h>' for n in range(1, 300))
    assert max(len(block.section or "") for block in parse("a.odt", files.opendocument(heads)).blocks) < 120


def test_a_title_that_no_text_holds_is_mended(parse: Parse) -> None:
    assert parse("a.json", '{"title": "a\\ud800\\u0000 b", "n": 1}').title == "a\ufffd\ufffd b"


def test_a_workbook_that_a_library_dies_of_is_refused_for_good(parse: Parse) -> None:
    with pytest.raises(errors.DocumentRefusedError):
        parse("a.xlsx", files.workbook_with_a_cell_far_away())
    assert texts(parse("next.txt", WICK)) == [WICK]


def test_entities_of_xml_are_not_looked_up(parse: Parse, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("from another file")
    entities = f'<!DOCTYPE x [<!ENTITY here "of its own"><!ENTITY there SYSTEM "{secret.as_uri()}">]>'
    content = f"{entities}<x {files.OFFICE}><text:p>{WICK} &there;&here;</text:p></x>"
    document = parse(
        "a.odt", files.archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})
    )
    assert texts(document) == [WICK]


def test_a_line_of_a_million_columns_is_read(parse: Parse) -> None:
    document = parse("wide.csv", ",".join(str(n) for n in range(1_000_000)))
    assert document.text.endswith("999999")


def test_numbers_stay_as_they_were_written(parse: Parse) -> None:
    digits = "9" * 10_000
    assert texts(parse("a.json", f'{{"n": {digits}}}')) == [f"n: {digits}"]


def test_a_block_is_bounded_where_a_path_is_not(parse: Parse) -> None:
    [block] = parse("a.json", '{"key":' * 150 + '"x"' + "}" * 150).blocks
    assert len(block.text) < 60
