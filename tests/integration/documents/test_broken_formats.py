"""What is odd in a format comes out within bounds; what is broken or means harm is in the corpus (hostile)."""

from pathlib import Path

import pytest

from pipelines.documents import errors
from tests.integration.documents import files
from tests.integration.documents.hostile.outcome import WICK
from tests.integration.documents.parsed import Parse, texts


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
