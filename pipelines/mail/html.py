"""A mail's HTML: made safe to be shown, or put into plain words.

Invariant: what `safe_html` returns runs nothing and loads nothing: neither when it is shown nor by its styles. Only
links lead out, and only where they are followed.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import Final

import nh3

from pipelines.mail.markup import VOID, Tag, scan
from pipelines.mail.texts import storable

MAX_SHOWN: Final = 1_000_000
"""Characters of HTML that are shown; the rest is cut."""
MAX_READ: Final = 2_000_000
"""Characters of HTML that are put into words."""

_MAX_TAGS: Final = 100_000
_MAX_DEPTH: Final = 200
_MAX_FORMATTING: Final = 8
"""Formatting tags within each other: a parser repeats them in each paragraph that follows."""
_FORMATTING: Final = {
    "b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u",
}  # fmt: skip
_CELL: Final = frozenset({"align", "valign", "bgcolor", "width", "height", "colspan", "rowspan", "nowrap"})
_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "*": {"style", "dir", "lang", "title", "align"},
    "a": {"href", "name"},
    "img": {"src", "alt", "width", "height"},
    "font": {"color", "face", "size"},
    "table": {"width", "height", "bgcolor", "border", "cellpadding", "cellspacing"},
    "td": set(_CELL),
    "th": set(_CELL),
    "tr": {"valign", "bgcolor"},
    "ol": {"start", "type"},
    "hr": {"width", "size", "color"},
}
_TAGS: Final = {
    "a", "abbr", "address", "b", "big", "blockquote", "br", "caption", "center", "code", "col", "colgroup", "dd",
    "del", "div", "dl", "dt", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd",
    "li", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var",
}  # fmt: skip
_SCHEMES: Final = {"http", "https", "mailto", "tel"}
_LINK: Final = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_PICTURE: Final = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=\s]+)", re.IGNORECASE)
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# Nothing of these places an element over others, and their values below name no address.
_STYLES: Final = {
    "background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left", "border-radius",
    "border-right", "border-spacing", "border-style", "border-top", "border-width", "color", "direction", "display",
    "font-family", "font-size", "font-style", "font-weight", "height", "letter-spacing", "line-height", "margin",
    "margin-bottom", "margin-left", "margin-right", "margin-top", "max-height", "max-width", "min-height",
    "min-width", "padding", "padding-bottom", "padding-left", "padding-right", "padding-top", "table-layout",
    "text-align", "text-decoration", "text-indent", "text-transform", "vertical-align", "white-space", "width",
    "word-break", "word-wrap",
}  # fmt: skip
_STYLE_VALUE: Final = re.compile(r"""(?:[\w\s#%.,!'"+-]|(?<![\w-])(?:rgb|hsl)a?\([\d\s.,%]*\))*""", re.ASCII)
_MAX_STYLE: Final = 2_000

_BLOCKS: Final = {
    "address", "blockquote", "center", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "section", "article", "table", "tr", "ul", "header", "footer",
}  # fmt: skip
_BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
_GAPS: Final = re.compile(r"\n{3,}")
_MAX_LINK: Final = 2_000
_PARAGRAPHS: Final = {
    "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul",
}  # fmt: skip


def safe_html(html: str, pictures: Mapping[str, tuple[str, bytes]] | None = None) -> str:
    """Return HTML that can be put into a page: no scripts, no forms, few styles, nothing that is loaded from elsewhere.

    `pictures` holds the mail's own by their content id, with media type and content; `cid:` names them. Links open
    apart and tell nothing of where they were.
    """
    return nh3.clean(
        _canonical(html[:MAX_SHOWN], pictures or {}),
        tags=set(_TAGS),
        clean_content_tags={"script", "style"},
        attributes=_ATTRIBUTES,
        attribute_filter=_filtered,
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes=_SCHEMES | {"data"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )


def _filtered(tag: str, name: str, value: str) -> str | None:
    """Return an attribute's value, None where it must go. This holds by itself, whatever was given to nh3."""
    if name == "src":
        return value if tag == "img" and _PICTURE.fullmatch(value) else None
    if name == "href":
        return value if _LINK.match(value) else None
    return _safe_style(value) if name == "style" else value


def _safe_style(style: str) -> str | None:
    """Return the declarations that are allowed, without any that could load something."""
    kept = []
    for declaration in style[:_MAX_STYLE].split(";"):
        name, _, value = declaration.partition(":")
        name = name.strip().lower()
        if name in _STYLES and value.strip() and _STYLE_VALUE.fullmatch(value):
            kept.append(f"{name}: {value.strip()}")
    return "; ".join(kept) or None


class _Writer:
    """Writes tags that are allowed, each closed and none too deep, so that no parser has trouble with them."""

    def __init__(self, pictures: Mapping[str, tuple[str, bytes]]) -> None:
        self._pictures = pictures
        self._open: list[str] = []
        self._formatting = 0
        self._left = _MAX_TAGS
        self.written: list[str] = []

    def tag(self, tag: Tag) -> None:
        """Write a tag, or leave it out."""
        if tag.is_end:
            self._close(tag.name)
        elif tag.name in _TAGS and self._left > 0 and self._fits(tag.name):
            self._left -= 1
            self.written.append(f"<{tag.name}{self._attributes(tag)}>")
            if tag.name not in VOID:
                self._open.append(tag.name)
                self._formatting += tag.name in _FORMATTING

    def _fits(self, name: str) -> bool:
        if name in _FORMATTING and self._formatting >= _MAX_FORMATTING:
            return False
        return name in VOID or len(self._open) < _MAX_DEPTH

    def _close(self, name: str) -> None:
        if name not in self._open:
            return
        closed = ""
        while closed != name:
            closed = self._open.pop()
            self._formatting -= closed in _FORMATTING
            self.written.append(f"</{closed}>")

    def end(self) -> str:
        """Return what was written, all of it closed."""
        return "".join([*self.written, *(f"</{name}>" for name in reversed(self._open))])

    def _attributes(self, tag: Tag) -> str:
        allowed = _ATTRIBUTES["*"] | _ATTRIBUTES.get(tag.name, set())
        given = {name: value for name, value in tag.attributes.items() if name in allowed}
        if tag.name == "img":
            given["src"] = self._picture(given.get("src", ""))
        return "".join(f' {name}="{escape(value)}"' for name, value in given.items())

    def _picture(self, source: str) -> str:
        source = source.strip()
        if not source.lower().startswith("cid:"):
            return source
        kind, content = self._pictures.get(source[4:], ("", b""))
        return f"data:{kind};base64,{b64encode(content).decode()}" if kind in _PICTURES else ""


def _canonical(html: str, pictures: Mapping[str, tuple[str, bytes]]) -> str:
    writer = _Writer(pictures)
    for piece in scan(html):
        if isinstance(piece, Tag):
            writer.tag(piece)
        else:
            writer.written.append(escape(piece.text, quote=False))
    return writer.end()


class _Words:
    """Puts tags and texts into plain lines."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._link: tuple[str, int] | None = None
        self._kept = 0

    def text(self, text: str) -> None:
        """Add text; runs of blanks are one, but for those of <pre>."""
        self._pieces.append(text if self._kept else _BLANKS.sub(" ", text))

    def tag(self, tag: Tag) -> None:
        """Add what a tag means to the lines around it."""
        if tag.name == "pre":
            self._kept = max(0, self._kept + (-1 if tag.is_end else 1))
        if tag.name == "a":
            self._end_link()
            self._link = None if tag.is_end else (tag.attributes.get("href", "").strip(), len(self._pieces))
        elif tag.name == "br":
            self._pieces.append("\n")
        elif tag.name in ("td", "th") and tag.is_end:
            self._pieces.append(" ")
        elif tag.name in _BLOCKS:
            self._pieces.append("\n\n" if tag.name in _PARAGRAPHS else "\n")
        if tag.name == "li" and not tag.is_end:
            self._pieces.append("- ")

    def _end_link(self) -> None:
        """Add where the link leads that ends here, unless its words say so."""
        if self._link is None:
            return
        leads, begun = self._link
        words = "".join(self._pieces[begun:]).strip()
        if _LINK.match(leads) and words and len(leads) <= _MAX_LINK and leads.removeprefix("mailto:") != words:
            self._pieces.append(f" [{leads}]")

    def end(self) -> str:
        """Return the lines: no blanks at their ends, one empty line at most between two."""
        self._end_link()
        lines = [line.strip(" \t") for line in "".join(self._pieces).replace("\xa0", " ").split("\n")]
        return _GAPS.sub("\n\n", "\n".join(lines)).strip("\n")


def text_of_html(html: str) -> str:
    """Return the words of HTML in lines, where links lead in brackets behind them."""
    words = _Words()
    for piece in scan(html[:MAX_READ]):
        if isinstance(piece, Tag):
            words.tag(piece)
        else:
            words.text(piece.text)
    return storable(words.end())
