"""HTML of mails cut into tags and text, in linear time whatever it is.

Neither the standard library's parser nor one that follows the standard keeps to that: unclosed remarks, a hundred
thousand attributes of one tag and tags nested as deep took seconds to minutes (2026-11).
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import Final, NamedTuple

_SIGN: Final = re.compile(r"<(?=[a-zA-Z/!?])")
_NAME: Final = re.compile(r"(/?)([a-zA-Z][a-zA-Z0-9:-]{0,40})(?=[\s/>])")
_ATTRIBUTE: Final = re.compile(r"""[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|(?!["'])[^\s>]*+))?+""")
# What stands in these is no text that is read.
_RAW: Final = {
    "script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext", "template", "svg",
    "math", "object",
}  # fmt: skip
_MAX_ATTRIBUTES: Final = 50
VOID: Final = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
}  # fmt: skip


class Text(NamedTuple):
    """Text between tags, its entities resolved."""

    text: str


class Tag(NamedTuple):
    """A tag; names are in lower case, values have their entities resolved."""

    name: str
    attributes: dict[str, str]
    is_end: bool


def scan(html: str) -> Iterator[Text | Tag]:
    """Yield what is shown of HTML: its tags and texts, without remarks, scripts, styles and declarations."""
    position = 0
    while found := _SIGN.search(html, position):
        if found.start() > position:
            yield Text(unescape(html[position : found.start()]))
        named = _NAME.match(html, found.end())
        if named is None:
            position = _behind_other(html, found.start())
            continue
        name = named[2].lower()
        attributes, position = _attributes(html, named.end())
        if name not in _RAW:
            yield Tag(name, attributes, bool(named[1]))
        elif not named[1]:
            position = _behind_raw(html, position, name)
    if position < len(html):
        yield Text(unescape(html[position:]))


def _behind_other(html: str, position: int) -> int:
    """Return where a remark, a declaration or what is no tag ends."""
    is_remark = html.startswith("<!--", position)
    end = "-->" if is_remark else ">"
    found = html.find(end, position + 2)
    return found + len(end) if found >= 0 else len(html)


def _behind_raw(html: str, position: int, name: str) -> int:
    end = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(html, position)
    return end.start() if end else len(html)


def _attributes(html: str, position: int) -> tuple[dict[str, str], int]:
    """Return a tag's first attributes, and the place behind the tag."""
    attributes: dict[str, str] = {}
    if html.startswith(">", position):
        return attributes, position + 1
    while found := _ATTRIBUTE.match(html, position):
        position = found.end()
        if len(attributes) < _MAX_ATTRIBUTES:
            value = found[2] or ""
            value = value[1:-1] if value[:1] in ("'", '"') else value
            attributes.setdefault(found[1].lower()[:100], unescape(value))
    end = html.find(">", position)
    return attributes, end + 1 if end >= 0 else len(html)
