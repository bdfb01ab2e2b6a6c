"""PDFs written by hand, so that they are wrong where they shall be."""

import zlib
from collections.abc import Mapping

from pipelines.documents import errors
from tests.integration.documents.hostile.outcome import WICK, Case, reads, refused

_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
_SHOW = f"BT /F1 12 Tf 20 100 Td ({WICK}) Tj ET".encode()
_CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
_PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>"


def stream(content: bytes, extra: bytes = b"", length: int | None = None) -> bytes:
    """Return a stream object."""
    size = len(content) if length is None else length
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (extra, size, content)


def pdf(changed: Mapping[int, bytes] | None = None, *, trailer: bytes = b"", table: bytes | None = None) -> bytes:
    """Return a PDF of one page that says WICK, with some of its objects or its table changed.

    1 is the catalogue, 2 the page tree, 3 the page, 4 its content, 5 its font.
    """
    objects = {
        1: _CATALOG,
        2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        3: _PAGE,
        4: stream(_SHOW),
        5: _FONT,
    } | dict(changed or {})
    body = b"%PDF-1.7\n"
    places = {}
    for number, content in sorted(objects.items()):
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    if table is None:
        rows = (
            b"%010d 00000 n \n" % places[n] if n in places else b"%010d 65535 f \n" % 0 for n in range(max(places) + 1)
        )
        table = b"xref\n0 %d\n%s" % (max(places) + 1, b"".join(rows))
    return (
        body
        + table
        + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (max(places) + 1, trailer, len(body))
    )


def _pages(count: int, told: int | None = None) -> bytes:
    kids = b" ".join(b"%d 0 R" % (10 + n) for n in range(count))
    tree = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, count if told is None else told)
    return pdf({2: tree} | {10 + n: _PAGE for n in range(count)})


_BOMB = zlib.compress(zlib.compress(b" " * 300_000_000, 9), 9)
_OUTLINE = _CATALOG[:-2] + b"/Outlines 6 0 R>>"

CASES: list[Case] = [
    reads("as it should be.pdf", pdf()),
    refused("a mark alone.pdf", b"%PDF-1.7\n", errors.TruncatedFileError),
    refused("a mark and an end.pdf", b"%PDF-1.7\n%%EOF\n", errors.BrokenFileError),
    refused("no pages.pdf", pdf({2: b"<</Type/Pages/Kids[]/Count 0>>"}), errors.BrokenFileError),
    refused("5,000 pages.pdf", _pages(5_000), errors.TooManyPagesError, "5000 pages, 2000 are allowed"),
    refused("a page tree in a circle.pdf", pdf({2: b"<</Type/Pages/Kids[2 0 R]/Count 1>>"}), errors.BrokenFileError),
    refused(
        "a page tree in a circle behind a page.pdf",
        pdf({2: b"<</Type/Pages/Kids[3 0 R 2 0 R]/Count 2>>"}),
        errors.BrokenFileError,
    ),
    reads("a page twice.pdf", pdf({2: b"<</Type/Pages/Kids[3 0 R 3 0 R]/Count 2>>"})),
    refused("fewer pages than told.pdf", _pages(2, told=100), errors.BrokenFileError),
    refused("a page that is none.pdf", pdf({2: b"<</Type/Pages/Kids[3 0 R 99 0 R]/Count 2>>"}), errors.BrokenFileError),
    reads("a table of zeros.pdf", pdf(table=b"xref\n0 6\n" + b"0000000000 00000 n \n" * 6)),
    reads("no table.pdf", pdf(table=b"nothing here\n")),
    reads("a table before that is none.pdf", pdf(trailer=b"/Prev 9")),
    reads("a table before itself.pdf", pdf(trailer=b"/Prev %d" % pdf().rindex(b"xref\n0"))),
    reads("a wrong length.pdf", pdf({4: stream(_SHOW, length=3)})),
    reads("a length beyond the end.pdf", pdf({4: stream(_SHOW, length=999_999_999)})),
    reads("no font.pdf", pdf({5: b"null"})),
    reads("a page of a mile.pdf", pdf({3: _PAGE.replace(b"400 200", b"1e12 1e12")})),
    reads("a page of nothing.pdf", pdf({3: _PAGE.replace(b"0 0 400 200", b"0 0 0 0")})),
    reads("a page turned about.pdf", pdf({3: _PAGE[:-2] + b"/Rotate 1234567>>"})),
    reads(
        "an outline in a circle.pdf",
        pdf(
            {
                1: _OUTLINE,
                6: b"<</First 7 0 R/Last 7 0 R/Count 1>>",
                7: b"<</Title(a)/Parent 6 0 R/Next 7 0 R/First 7 0 R/Dest[3 0 R/Fit]>>",
            }
        ),
    ),
    reads(
        "an outline below itself.pdf",
        pdf(
            {
                1: _OUTLINE,
                6: b"<</First 7 0 R/Last 7 0 R/Count 1>>",
                7: b"<</Title(a)/First 6 0 R/Dest[3 0 R/Fit]>>",
            }
        ),
    ),
    reads(
        "a deep outline.pdf",
        pdf(
            {1: _OUTLINE, 6: b"<</First 10 0 R/Last 10 0 R>>"}
            | {10 + n: b"<</Title(a%d)/First %d 0 R/Dest[3 0 R/Fit]>>" % (n, 11 + n) for n in range(2_000)}
        ),
    ),
    reads(
        "a form that draws itself.pdf",
        pdf(
            {
                3: _PAGE.replace(b"/Font", b"/XObject<</X 6 0 R>>/Font"),
                4: stream(_SHOW + b" /X Do"),
                6: stream(b"/X Do", b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 6 0 R>>>>"),
            }
        ),
    ),
    reads(
        "a script on opening.pdf",
        pdf({1: _CATALOG[:-2] + b"/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>"}),
        lacks="alert",
    ),
    reads("a program on opening.pdf", pdf({1: _CATALOG[:-2] + b"/OpenAction<</S/Launch/F(/bin/sh)>>>>"})),
    reads("a form to be sent.pdf", pdf({1: _CATALOG[:-2] + b"/AcroForm<</XFA 6 0 R>>>>", 6: stream(b"<xdp/>")})),
    reads("junk before the mark.pdf", b"junk " * 20 + pdf()),
    reads("junk behind the end.pdf", pdf() + b"\0" * 5_000),
    reads("thousands of saves.pdf", pdf({4: stream(b"q " * 100_000 + _SHOW)})),
    reads(
        "nested lists.pdf",
        pdf({3: _PAGE.replace(b"/Parent", b"/Annots 6 0 R/Parent"), 6: b"[" * 50_000 + b"]" * 50_000}),
    ),
    refused("a picture and no text.pdf", pdf({4: stream(b"0 0 m 9 9 l S")}), errors.NoTextError),
    refused("a stream that is none.pdf", pdf({4: stream(b"not deflated", b"/Filter/FlateDecode")}), errors.NoTextError),
    refused(
        "a stream deflated twice that is large.pdf",
        pdf({4: stream(_BOMB, b"/Filter[/FlateDecode/FlateDecode]")}),
        errors.NoTextError,
    ),
    refused(
        "a password nobody knows.pdf",
        pdf(
            {6: b"<</Filter/Standard/V 2/R 3/Length 128/P -4/O(%s)/U(%s)>>" % (b"x" * 32, b"y" * 32)},
            trailer=b"/Encrypt 6 0 R/ID[(a)(a)]",
        ),
        errors.EncryptedFileError,
    ),
    refused(
        "a lock of no known make.pdf",
        pdf({6: b"<</Filter/Nobody/V 9/R 9/P -4>>"}, trailer=b"/Encrypt 6 0 R/ID[(a)(a)]"),
        errors.EncryptedFileError,
    ),
    refused("cut in the middle.pdf", pdf()[:300], errors.TruncatedFileError),
    refused("an end and nothing before.pdf", b"%PDF-1.7\n" + b"\0" * 5_000 + b"\n%%EOF", errors.BrokenFileError),
]
