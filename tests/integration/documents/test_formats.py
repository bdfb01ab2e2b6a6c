"""Each format that is read gives its words with their structure."""

from pathlib import Path

import pytest

from pipelines.documents.parsing import ParserProcess, media_type_of
from pipelines.documents.parsing.formats import FORMATS, Format
from tests.integration.documents import files
from tests.integration.documents.parsed import Parse, blocks, limits_of, texts

# Of each ending, or of each format, a file that is one.
_MADE: dict[str, bytes | str] = {
    "text/plain": "x",
    "text/markdown": "some text",
    "text/html": "<p>some text</p>",
    "text/csv": "a,b",
    "text/tab-separated-values": "a\tb",
    "application/json": "[1]",
    "application/jsonl": "[1]",
    "text/org": "* x",
    "text/x-rst": "x",
    "text/x-source": "x = 1",
    "application/rtf": files.RTF,
    "message/rfc822": files.EML,
    "application/vnd.ms-outlook": files.outlook(),
    "application/epub+zip": files.epub(),
    ".docx": files.word(),
    ".pptx": files.slides(),
    ".xlsx": files.workbook(),
    ".odt": files.opendocument(),
    ".odp": files.opendocument("<text:p>x</text:p>", "presentation"),
}
# PDFs in test_parsing.py; macro and template forms below. Nothing here writes xls, xlsb or ods.
_MADE_ELSEWHERE = frozenset(media_type_of(name) for name in ("a.pdf", "a.docm", "a.ppsx", "a.xlsb", "a.xls", "a.ods"))
WICK = "The keeper trims the wick at dusk."
HORN = "The horn sounds twice a minute."


@pytest.mark.parametrize("name", ["a.docx", "a.odt"])
def test_a_text_of_an_office_has_headings_lists_and_tables(parse: Parse, name: str) -> None:
    document = parse(name, files.word() if name == "a.docx" else files.opendocument())
    assert blocks(document) == [
        ("title", None, "Lamp", "Lamp"),
        ("text", None, "Lamp", WICK),
        ("list_item", None, "Lamp", "Rape oil"),
        *([("table", None, "Lamp", "part | weight\nlens | three tonnes")] if name == "a.docx" else []),
        *([("table", None, "Lamp", "lens | three tonnes")] if name == "a.odt" else []),
        ("title", None, "Lamp \u203a Fog", "Fog"),
        ("text", None, "Lamp \u203a Fog", HORN),
    ]
    assert document.title == ("The Light" if name == "a.docx" else "Lamp")
    assert document.language == "english"


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.media_type)
def test_every_ending_of_a_format_is_read(parse: Parse, known: Format) -> None:
    for suffix in known.suffixes:
        made = _MADE.get(suffix) or _MADE.get(known.media_type)
        if made is not None:
            assert parse(f"a{suffix}", made).media_type == known.media_type, suffix
        else:
            assert known.media_type in _MADE_ELSEWHERE, suffix


def test_a_template_and_a_file_with_macros_are_read_like_any(parse: Parse) -> None:
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    for other in (
        "application/vnd.ms-word.document.macroEnabled.main+xml",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    ):
        changed = files.rewritten(files.word(), "[Content_Types].xml", main, other)
        assert WICK in texts(parse("a.docm", changed))
    show = "application/vnd.openxmlformats-officedocument.presentationml.{}.main+xml"
    changed = files.rewritten(
        files.slides(), "[Content_Types].xml", show.format("presentation"), show.format("slideshow")
    )
    assert WICK in texts(parse("a.ppsx", changed))


@pytest.mark.parametrize("name", ["a.docx", "a.pptx"])
def test_a_file_without_a_title_gets_none_from_a_library(parse: Parse, name: str) -> None:
    made = files.word() if name == "a.docx" else files.slides()
    assert parse(name, files.without(made, "docProps/core.xml")).title in ("Lamp", "Lamp 1")


def test_a_table_in_a_table_stands_there_once(parse: Parse) -> None:
    cell = "<table:table-cell><text:p>outer</text:p>{}</table:table-cell>"
    row = "<table:table><table:table-row>{}</table:table-row></table:table>"
    nested = row.format(cell.format(row.format("<table:table-cell><text:h>inner</text:h></table:table-cell>")))
    assert texts(parse("a.odt", files.opendocument(nested))) == ["outer inner"]
    assert texts(parse("a.docx", files.word_with_a_table_in_a_table())) == ["left | outer inner"]


def test_a_note_is_no_part_of_the_word_before_it(parse: Parse) -> None:
    body = "<text:note-body><text:p>Oil.</text:p></text:note-body>"
    note = f"<text:note><text:note-citation>1</text:note-citation>{body}</text:note>"
    [text] = texts(parse("a.odt", files.opendocument(f"<text:p>The lamp{note} burns.</text:p>")))
    assert text.split() == ["The", "lamp", "Oil.", "burns."]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"From: =?utf-8?q?a=0Ab?= <x@example.org>\r\nSubject: Lamp\r\n\r\nOil.\r\n", "Oil."),
        (
            b'From: a@example.org\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\n'
            b"Content-Type: text/plain\r\n\r\n \r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Oil.</p>\r\n--b--\r\n",
            "Oil.",
        ),
        (
            b'From: a@example.org\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
            b"Content-Type: text/plain\r\n\r\nfirst\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b\r\n"
            b"Content-Type: text/plain\r\n\r\nOil.\r\n--b--\r\n",
            "Oil.",
        ),
    ],
    ids=["a header against the rules", "a blank plain text", "a text behind a picture"],
)
def test_no_text_of_a_message_is_lost(parse: Parse, content: bytes, expected: str) -> None:
    assert texts(parse("a.eml", content))[-1] == expected


def test_what_readers_stop_at_is_read(parse: Parse) -> None:
    assert parse("a.org", "#+TITLE: One\n#+TITLE: Two\n* H\nbody\n").title == "One"
    assert texts(parse("a.rst", "word " * 3_000))[0].startswith("word word")


def test_what_is_removed_but_not_accepted_is_left_out_and_what_is_inserted_is_not(parse: Parse) -> None:
    body = (
        "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t> inserted</w:t></w:r></w:ins></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>In a content control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    import docx
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    document = docx.Document()
    for element in parse_xml(f"<w:body {nsdecls('w')}>{body}</w:body>"):
        document.element.body.insert(0, element)
    from io import BytesIO

    content = BytesIO()
    document.save(content)
    assert sorted(texts(parse("a.docx", content.getvalue()))) == ["In a content control", "Kept inserted"]


def test_slides_are_pages(parse: Parse) -> None:
    document = parse("a.pptx", files.slides(2))
    assert [block for block in blocks(document) if block[1] == 2] == [
        ("title", 2, "Lamp 2", "Lamp 2"),
        ("list_item", 2, "Lamp 2", WICK),
        ("list_item", 2, "Lamp 2", "Rape oil"),
        ("table", 2, "Lamp 2", "lens | three tonnes"),
        ("text", 2, "Lamp 2", HORN),
    ]


def test_a_presentation_of_the_other_office_has_pages_too(parse: Parse) -> None:
    page = "<draw:page><draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame></draw:page>"
    document = parse("a.odp", files.opendocument(page.format(WICK) + page.format(HORN), "presentation"))
    assert blocks(document) == [("text", 1, None, WICK), ("text", 2, None, HORN)]


def test_rows_of_a_sheet_stand_beside_their_columns_names(parse: Parse) -> None:
    document = parse("a.xlsx", files.workbook())
    assert blocks(document) == [
        ("title", 1, "Parts", "Parts"),
        ("table", 1, "Parts", "part | weight | made\npart: lens | weight: 3000 | made: 1867\npart: from elsewhere"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "name;age\nAnn;3\n;\nBob;\n", ["name | age\nname: Ann | age: 3\nname: Bob"]),
        ("a.csv", "1,2\n3,4\n", ["1 | 2\n3 | 4"]),
        ("a.csv", 'a,b\n"x, ""y""","two\nlines"\n', ['a | b\na: x, "y" | b: two lines']),
        ("a.tsv", "name\tage\nAnn\t3\n", ["name | age\nname: Ann | age: 3"]),
        ("a.json", '{"a": {"b": [1, 2.50]}, "n": 1e999, "z": null}', ["a.b: 1, 2.50", "n: 1e999"]),
        ("a.json", '[{"a": "x"}, {"a": "y", "b": [{"c": true}]}]', ["a: x", "a: y\nb.c: true"]),
        ("a.json", '"only a text"', ["only a text"]),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', ["a: 1", "a: 2"]),
    ],
)
def test_records_are_lines_that_say_what_they_are(parse: Parse, name: str, content: str, expected: list[str]) -> None:
    assert texts(parse(name, content)) == expected


def test_many_rows_are_many_blocks(parse: Parse) -> None:
    document = parse("a.csv", "name,age\n" + "".join(f"n{i},{i}\n" for i in range(1000)))
    assert len(document.blocks) == 21
    assert document.text.count("name: n999 | age: 999") == 1


def test_a_book_is_its_spine(parse: Parse) -> None:
    document = parse("a.epub", files.epub())
    assert document.title == "The Light"
    assert blocks(document) == [
        ("title", None, "Lamp", "Lamp"),
        ("text", None, "Lamp", WICK),
        ("table", None, "Lamp", "lens | three tonnes"),
        ("title", None, "Lamp \u203a Fog", "Fog"),
        ("text", None, "Lamp \u203a Fog", HORN),
    ]


def test_a_message_has_its_headers_its_body_and_what_is_attached(parse: Parse) -> None:
    document = parse("a.eml", files.EML)
    assert document.title == "Lamp"
    assert texts(document) == [
        "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Lamp",
        WICK,
        "Attachment: log.pdf",
        "From: carl@example.org\nSubject: Fog",
        HORN,
    ]


def test_an_outlook_message_is_read_too(parse: Parse) -> None:
    document = parse("a.msg", files.outlook())
    assert (document.title, texts(document)[-1]) == ("Lamp", WICK)
    assert "Bob <bob@example.org>" in texts(document)[0]


def test_rich_text_is_its_words(parse: Parse) -> None:
    assert texts(parse("a.rtf", files.RTF)) == [WICK, "Caf\u00e9 \u20ac"]


def test_org_has_sections(parse: Parse) -> None:
    document = parse("a.org", files.ORG)
    assert document.title == "The Light"
    assert blocks(document) == [
        ("title", None, "Lamp", "Lamp"),
        ("text", None, "Lamp", WICK),
        ("title", None, "Lamp \u203a Fog", "Fog"),
        ("text", None, "Lamp \u203a Fog", HORN),
        ("list_item", None, "Lamp \u203a Fog", "- Rape oil"),
        ("code", None, "Lamp \u203a Fog", "code = 1"),
    ]


def test_restructured_text_keeps_what_it_does_not_know_and_includes_nothing(parse: Parse) -> None:
    document = parse("a.rst", files.RST)
    found = blocks(document)
    assert document.title == "The Light"
    assert any("wick" in text for text in texts(document))
    assert any("Kept all the same." in text for text in texts(document))
    assert ("list_item", None, "The Light \u203a Fog", "Rape oil") in found
    assert ("code", None, "The Light \u203a Fog", "code = 1") in found
    assert ("table", None, "The Light \u203a Fog", "lens | three tonnes") in found
    assert Path("/etc/hostname").read_text().strip() not in document.text


def test_code_is_cut_where_something_is_defined(parse: Parse) -> None:
    found = blocks(parse("lamp.py", files.PROGRAM))
    assert [(kind, section) for kind, _, section, _ in found] == [("code", None), ("code", "Lamp"), ("code", "horn")]
    assert found[1][3].endswith("return 1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wrong.docx", files.slides()),
        ("wrong.xlsx", files.epub()),
        ("wrong.txt", files.word()),
        ("none", files.opendocument()),
        ("wrong.pdf", files.RTF),
    ],
)
def test_content_counts_and_not_the_name(parse: Parse, name: str, content: bytes) -> None:
    assert any("wick" in text for text in texts(parse(name, content)))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Wärter putzt die Lampe und schreibt das Wetter jeden Abend in das Buch.", "german"),
        ("Le gardien nettoie la lampe et note le temps qu'il fait chaque soir.", "french"),
        ("灯台守は夕暮れにランプを整え、毎晩の天気を記録に残します。", "simple"),
        ("OK", "english"),
    ],
)
def test_a_text_has_a_language(parse: Parse, text: str, language: str) -> None:
    assert parse("a.txt", text).language == language


def test_the_language_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Der Wärter putzt die Lampe.")
    parser = ParserProcess(language="finnish")
    try:
        assert parser.parse(path, limits=limits_of()).language == "finnish"
    finally:
        parser.close()
