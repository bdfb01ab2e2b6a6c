"""Markup that is nested or unclosed, or would have something read, run or sent: HTML, Markdown, Org, rst, RTF."""

from pipelines.documents import errors
from tests.integration.documents.hostile.outcome import EXTERNAL, LAUGHS, WICK, Case, reads, refused

_DEEP = 10_000


def _page(body: str) -> str:
    return f"<!doctype html><html><head><title>t</title></head><body>{body}</body></html>"


_HTML: list[Case] = [
    refused(
        "nested divisions.html",
        _page("<div>" * _DEEP + WICK + "</div>" * _DEEP),
        errors.BrokenFileError,
        "deeper than 300",
    ),
    refused("nested tables.html", _page("<table><tr><td>" * 2_000 + WICK), errors.BrokenFileError, "deeper than 300"),
    refused("nested lists.html", _page("<ul><li>" * 3_000 + WICK), errors.BrokenFileError, "deeper than 300"),
    refused("nested quotations.html", _page("<blockquote>" * _DEEP + WICK), errors.BrokenFileError, "deeper than 300"),
    reads("nested as old pages are.html", _page("<div><font><b>" * 60 + WICK)),
    refused("never closed.html", _page(f"<p>{WICK}" + "<b><i><u>" * 5_000), errors.BrokenFileError, "deeper than 300"),
    reads("items never closed.html", _page("<ul>" + "<li>x" * 5_000 + f"<li>{WICK}")),
    reads("closed and never opened.html", _page("</div></b></p></table>" * 5_000 + WICK)),
    reads("an attribute of a megabyte.html", _page(f'<p title="{"x" * 1_000_000}">{WICK}</p>'), lacks="xxx"),
    reads("many attributes.html", _page("<p " + " ".join(f"a{n}=1" for n in range(5_000)) + f">{WICK}</p>")),
    reads("entities that grow.html", LAUGHS + f"<html><body><p>{WICK} &k;</p></body></html>", most=2_000),
    reads("an entity from a file.html", EXTERNAL + f"<html><body><p>{WICK} &a;</p></body></html>"),
    reads("a script never closed.html", _page(f"<p>{WICK}</p><script>var evil = 1;"), lacks="evil"),
    reads("a style never closed.html", _page(f"<p>{WICK}</p><style>p {{ evil: 1 }}"), lacks="evil"),
    refused("all in a remark.html", "<html><body><!-- " + WICK, errors.NoTextError),
    refused(
        "frames alone.html", '<html><frameset><frame src="file:///etc/passwd"></frameset></html>', errors.NoTextError
    ),
    reads("a frame of a file.html", _page(f'<p>{WICK}</p><iframe src="file:///etc/passwd"></iframe>')),
    reads("an object of a file.html", _page(f'<object data="file:///etc/passwd"></object><p>{WICK}</p>')),
    reads(
        "a page that sends one on.html",
        _page(f'<meta http-equiv="refresh" content="0;url=file:///etc/passwd"><p>{WICK}'),
    ),
    reads("a base elsewhere.html", f'<html><head><base href="file:///etc/"></head><body><img src="passwd"><p>{WICK}'),
    reads(
        "an image within.html", _page(f'<img src="data:image/png;base64,{"QUJD" * 100_000}"><p>{WICK}</p>'), most=500
    ),
    reads("a charset that is none.html", f'<html><head><meta charset="x-nonsense"></head><body><p>{WICK}'),
    reads("a charset that lies.html", f'<html><head><meta charset="utf-16"></head><body><p>{WICK}'),
    reads("characters that are none.html", _page(f"<p>&#x110000; &#0; &#xD800; &#xFFFFFFFFFF; {WICK}</p>")),
    reads(
        "cells without end.html",
        _page(f'<table><tr><td rowspan="999999999" colspan="999999999">{WICK}</td></tr></table>'),
    ),
    reads("zeros in tags.html", _page(f"<p\0 class\0=a>{WICK}</p\0>").encode()),
    reads("angle brackets.html", _page("<" * 100_000 + f"<p>{WICK}</p>")),
    reads("a drawing with text.html", _page(f"<svg><text>lens</text></svg><p>{WICK}</p>")),
    reads("half a page.html", _page(f"<p>{WICK}</p><p>and so o")[:-14]),
]

_TEXTS: list[Case] = [
    reads("nested quotations.md", "> " * 5_000 + WICK),
    reads("brackets.md", "[" * 20_000 + WICK),
    reads("stars.md", "*" * 20_000 + WICK + "_" * 20_000),
    reads("backticks.md", "".join("`" * n + " " for n in range(1, 400)) + WICK),
    refused("nested lists.md", "".join("  " * n + "- x\n" for n in range(500)) + f"\n{WICK}", errors.BrokenFileError),
    reads("nested divisions in a line.md", f"# a\n\n{'<div>' * _DEEP}{WICK}\n"),
    refused(
        "nested divisions.md",
        "# a\n\n" + "<div>\n" * _DEEP + WICK,
        errors.BrokenFileError,
        "deeper than 300",
    ),
    reads(
        "addresses and types.md",
        "```\n" + "<path> Vec<u8>\n" * 400 + "```\n" + "<https://example.org/> " * 400 + f"\n\n{WICK}\n",
    ),
    reads("code never closed.md", f"```python\n{WICK}\n"),
    reads("a wide table.md", "|" + "a|" * 5_000 + "\n|" + "-|" * 5_000 + f"\n|{WICK}|\n"),
    reads("references in a circle.md", f"[a]: [b]\n[b]: [a]\n\n{WICK} [a][b]\n"),
    reads("a script in between.md", f"{WICK}\n\n<script>evil()</script>\n", lacks="evil"),
    reads("entities.md", "&lt;" * 50_000 + f" {WICK}"),
    reads("an included file.rst", f"{WICK}\n\n.. include:: /etc/passwd\n"),
    reads("a raw file.rst", f"{WICK}\n\n.. raw:: html\n   :file: /etc/passwd\n"),
    reads("a table from a file.rst", f"{WICK}\n\n.. csv-table::\n   :file: /etc/passwd\n"),
    reads("substitutions in a circle.rst", f"{WICK} |a|\n\n.. |a| replace:: |b|\n.. |b| replace:: |a|\n"),
    refused(
        "nested quotations.rst", "".join(" " * n + "x\n\n" for n in range(300)) + f"{WICK}\n", errors.BrokenFileError
    ),
    reads("inline marks.rst", "*" * 5_000 + f" {WICK}\n"),
    reads("a wrong table.rst", f"=== ===\na   b\n=== =\n\n{WICK}\n"),
    refused("a remark alone.rst", ".. comment only\n", errors.NoTextError),
    reads("an included file.org", f'#+INCLUDE: "/etc/passwd"\n{WICK}\n'),
    reads("deep headlines.org", "".join("*" * n + " x\n" for n in range(1, 500)) + f"{WICK}\n"),
    reads("code never closed.org", f"#+begin_src sh\n{WICK}\n"),
    reads("drawers never closed.org", f"* a\n:PROPERTIES:\n:x: 1\n{WICK}\n"),
    reads("a drawer closed in small letters.org", f"* a\n:PROPERTIES:\n:x: 1\n:end:\n{WICK}\n"),
    reads("a drawer closed in a sentence.org", f"* a\n:PROPERTIES:\n:x: 1\n{WICK} :END:\n"),
    reads("a drawer in a sentence.org", f"* a\nHere are :PROPERTIES: of it.\n{WICK}\n:END:\n", WICK, "Here are"),
    reads("text in a drawer.org", f"* a\n:PROPERTIES:\n:x: 1\n{WICK}\n:END:\n"),
    reads(
        "properties of code.org",
        f"* a\n:PROPERTIES:\n:header-args:python: :session x\n:END:\n{WICK}\n",
        lacks="session",
    ),
    reads("many drawers.org", "* a\n" + ":PROPERTIES:\n:x: 1\n" * 100_000 + f":END:\n{WICK}\n"),
    reads("dates that are none.org", f"* a <9999-99-99 Xxx>\nSCHEDULED: <0000-00-00>\n{WICK}\n"),
    reads("entities that grow.xml", f"{LAUGHS}<x>{WICK} &k;</x>", most=5_000),
    reads("an entity from a file.svg", f"{EXTERNAL}<svg><text>{WICK} &a;</text></svg>"),
    reads(
        "another document.xml",
        f'<x xmlns:xi="http://www.w3.org/2001/XInclude">{WICK}<xi:include href="/etc/passwd"/></x>',
    ),
    reads("code that does not compile.py", f"def f(:\n    {WICK!r}\n" * 100),
    reads("code of one line.js", f"var a='{WICK}';" * 20_000),
]


def _rtf(body: str) -> bytes:
    return rb"{\rtf1\ansi " + body.encode() + b"}"


_RTF: list[Case] = [
    reads("groups never closed.rtf", rb"{\rtf1\ansi " + b"{" * 5_000 + WICK.encode()),
    reads("groups closed too often.rtf", _rtf(WICK + "}" * 5_000)),
    reads("bytes that are missing.rtf", _rtf(f"{WICK}\\par \\bin999999999 x")),
    refused("characters that are none.rtf", _rtf(f"\\u99999999? {WICK}"), errors.BrokenFileError),
    reads("characters that are not hexadecimal.rtf", _rtf(f"\\'zz {WICK}")),
    reads("a picture.rtf", _rtf(f"{WICK}{{\\pict\\pngblip {'89504e47' * 50_000}}}"), most=500),
    reads("a field of a file.rtf", _rtf(f'{WICK}{{\\field{{\\*\\fldinst INCLUDETEXT "/etc/passwd"}}{{\\fldrslt x}}}}')),
    reads("an object.rtf", _rtf(f"{WICK}{{\\object\\objemb{{\\*\\objdata {'d0cf11e0' * 20_000}}}}}"), most=500),
    reads("control words of a kilobyte.rtf", _rtf("\\" + "x" * 1_000 + f"9999999999999999999 {WICK}")),
    refused("nothing but fonts.rtf", _rtf("{\\fonttbl{\\f0 Arial;}}"), errors.NoTextError),
]

CASES: list[Case] = [*_HTML, *_TEXTS, *_RTF]
