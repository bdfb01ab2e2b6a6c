"""A mail's parts to its text, its HTML and its files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from pipelines.mail.html import text_of_html
from pipelines.mail.parsing.charsets import text_of
from pipelines.mail.parsing.flowed import unflow
from pipelines.mail.parsing.kinds import kind_of
from pipelines.mail.parsing.names import safe_name
from pipelines.mail.parsing.transfer import take_uuencoded, undo
from pipelines.mail.parsing.tree import Part
from pipelines.mail.parsing.types import MailLimits, ParsedAttachment, Problems
from pipelines.mail.parsing.values import MAX_ID, parameters_of, words_of
from pipelines.mail.texts import one_line, storable

_MAIL: Final = ("message/rfc822", "message/global", "message/news")


class Body(NamedTuple):
    """What a part has to say; None where it has no such form."""

    text: str | None = None
    html: str | None = None


@dataclass
class Reader:
    """Reads the parts of one mail, and collects its files."""

    data: bytes
    limits: MailLimits
    problems: Problems
    files: list[ParsedAttachment] = field(default_factory=list)

    def read(self, part: Part) -> Body:
        """Return the mail's text and HTML, each within the limit; the text is made of the HTML where there is none."""
        body = self._read(part, is_related=False)
        text = text_of_html(body.html) if body.text is None and body.html is not None else body.text
        return Body(*(None if form is None else self._cut(form) for form in (text, body.html)))

    def _cut(self, text: str) -> str:
        most = self.limits.max_text_characters
        if len(text) > most:
            self.problems.tell(f"A text is longer than {most} characters; it is cut.")
        return text[:most]

    def _read(self, part: Part, *, is_related: bool) -> Body:
        if not part.parts:
            return self._leaf(part, is_related=is_related)
        if part.kind == "multipart/alternative":
            return _best([self._read(inner, is_related=False) for inner in part.parts])
        if part.kind == "multipart/related":
            return _joined([self._read(inner, is_related=inner is not part.parts[0]) for inner in part.parts])
        return _joined([self._read(inner, is_related=is_related) for inner in part.parts])

    def _leaf(self, part: Part, *, is_related: bool) -> Body:
        disposition, named = parameters_of(part.fields.get("content-disposition"), self.problems)
        given = named.get("filename") or part.parameters.get("name") or ""
        is_shown = part.kind in ("text/plain", "text/html") and not given and disposition != "attachment"
        if is_shown and not is_related and not part.is_too_deep:
            return self._text(part)
        self._file(part, given, is_inline=disposition == "inline" or (is_related and disposition != "attachment"))
        return Body()

    def _text(self, part: Part) -> Body:
        data = self._undone(part)
        if part.kind == "text/html":
            return Body(html=storable(text_of(data, part.parameters.get("charset"), self.problems)))
        if b"\nbegin " in data or data.startswith(b"begin "):
            data, embedded = take_uuencoded(data)
            for file in embedded:
                self._add(file.content, words_of(file.name, self.problems), "", None, is_inline=False)
        text = storable(text_of(data, part.parameters.get("charset"), self.problems))
        if part.parameters.get("format", "").lower() == "flowed":
            text = unflow(self._cut(text), deletes_space=part.parameters.get("delsp", "").lower() == "yes")
        return Body(text=text)

    def _undone(self, part: Part) -> bytes:
        encoding = part.fields.get("content-transfer-encoding")
        return undo(self.data[part.start : part.end], encoding, self.problems)

    def _file(self, part: Part, given: str, *, is_inline: bool) -> None:
        if part.end - part.start > 2 * self.limits.max_attachment_bytes:  # encodings make it a third longer, as a rule
            self._refuse()
            return
        content_id = one_line(words_of(part.fields.get("content-id"), self.problems)).strip("<> ")[:MAX_ID] or None
        if part.is_too_deep:
            self._add(self.data[part.start : part.end], "", "message/rfc822", None, is_inline=False)
        else:
            self._add(self._undone(part), given, part.kind, content_id, is_inline=is_inline)

    def _refuse(self) -> None:
        most = self.limits.max_attachment_bytes
        self.problems.tell(f"A file is larger than {most} bytes; it is left out.")

    def _add(self, content: bytes, given: str, declared: str, content_id: str | None, *, is_inline: bool) -> None:
        if len(content) > self.limits.max_attachment_bytes:
            self._refuse()
            return
        kind = "message/rfc822" if declared in _MAIL else kind_of(content, declared, given)
        name = safe_name(given, len(self.files) + 1, kind)
        self.files.append(ParsedAttachment(name, kind, content, sha256(content).digest(), content_id, is_inline))


def _best(forms: list[Body]) -> Body:
    """Return of several forms of one text the last of each kind, the richest; a blank one only where no other is."""
    return Body(_last(form.text for form in forms), _last(form.html for form in forms))


def _last(texts: Iterator[str | None]) -> str | None:
    told = [text for text in texts if text is not None]
    return next((text for text in reversed(told) if text.strip()), told[-1] if told else None)


def _joined(bodies: list[Body]) -> Body:
    """Return texts that follow each other; what is there in HTML alone is put in words between the others."""
    htmls = [body.html for body in bodies if body.html is not None]
    if all(body.text is None for body in bodies):
        return Body(None, "\n".join(htmls) if htmls else None)
    texts = [_words(body, text_of_html) for body in bodies]
    told = [text for text in texts if text is not None]
    return Body(_paragraphs(told), "\n".join(htmls) if htmls else None)


def _words(body: Body, put: Callable[[str], str]) -> str | None:
    return put(body.html) if body.text is None and body.html is not None else body.text


def _paragraphs(texts: list[str]) -> str:
    return "\n".join([*(text.rstrip("\n") for text in texts[:-1] if text.strip()), *texts[-1:]])
