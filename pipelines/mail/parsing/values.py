"""What a header field says: words, parameters, message ids, dates. Each takes linear time and never raises."""

import binascii
import re
from datetime import UTC, datetime
from email.utils import decode_params, parsedate_to_datetime
from typing import Final, NamedTuple

from pipelines.documents.parsing.decoding import decode
from pipelines.mail.parsing.charsets import text_of
from pipelines.mail.parsing.transfer import from_base64
from pipelines.mail.parsing.types import Problems
from pipelines.mail.texts import one_line, storable

MAX_ID: Final = 998
MAX_REFERENCES: Final = 100
MAX_WORDS: Final = 10_000
"""Characters of a header that are kept."""

_FOLD: Final = re.compile(r"\r?\n")
_WORD: Final = re.compile(r"=\?([\w.:+-]{1,40})(?:\*[\w-]{0,20})?\?([bBqQ])\?([^?\r\n]*)\?=")
_PARAMETER: Final = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+("(?:[^"\\]|\\.)*+"?+|[^;]*+)', re.DOTALL)
_ID: Final = re.compile(r"<([^<>]+)>")
_MAX_PARAMETERS: Final = 4_096
_LAST_PARAMETER: Final = 100


def words_of(raw: bytes, problems: Problems) -> str:
    """Return a field's text in one line, encoded words (RFC 2047) decoded."""
    text = _FOLD.sub("", decode(raw))
    if "=?" in text:
        text = _decode_words(text, problems)
    line = one_line(text)
    if len(line) > MAX_WORDS:
        problems.tell(f"A header is longer than {MAX_WORDS} characters; it is cut.")
    return line[:MAX_WORDS]


class _Run(NamedTuple):
    """Encoded words of one charset that touch, and what stands before them."""

    before: str
    charset: str
    pieces: list[bytes]


def _decode_words(text: str, problems: Problems) -> str:
    """Decode encoded words; those of one charset that touch are one, since some programs cut within a character."""
    runs: list[_Run] = []
    position = 0
    for found in _WORD.finditer(text):
        before, charset = text[position : found.start()], found[1].lower()
        piece = _word(found[2].lower(), found[3].encode("utf-8", "replace"), problems)
        position = found.end()
        touches = bool(runs) and not before.strip()
        if touches and runs[-1].charset == charset:
            runs[-1].pieces.append(piece)
        else:
            runs.append(_Run("" if touches else before, charset, [piece]))
    decoded = (run.before + text_of(b"".join(run.pieces), run.charset, problems) for run in runs)
    return "".join(decoded) + text[position:]


def _word(encoding: str, data: bytes, problems: Problems) -> bytes:
    return binascii.a2b_qp(data, header=True) if encoding == "q" else from_base64(data, problems)


def parameters_of(raw: bytes, problems: Problems) -> tuple[str, dict[str, str]]:
    """Return a field's value in lower case, and its parameters (RFC 2231 and encoded words decoded)."""
    text = _FOLD.sub("", decode(raw[:_MAX_PARAMETERS]))
    found = _PARAMETER.findall(text)[:_LAST_PARAMETER]
    value = one_line(text.partition(";")[0]).lower()
    plain = {name.lower(): storable(_words_in(_unquoted(said), problems)) for name, said in reversed(found)}
    starred = {name.partition("*")[0] for name in plain if "*" in name}
    if starred:
        continued = _continued([("", ""), *((name.lower(), said.strip()) for name, said in found)], problems)
        plain |= {name: said for name, said in continued.items() if name in starred}
    return value, plain


def _words_in(text: str, problems: Problems) -> str:
    return _decode_words(text, problems) if "=?" in text else text


def _unquoted(text: str) -> str:
    text = text.strip()
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", r"\1", text[1:].removesuffix('"'))


def _continued(pairs: list[tuple[str, str]], problems: Problems) -> dict[str, str]:
    """Return parameters that are written in pieces or in a charset of their own (RFC 2231)."""
    try:
        return {name: storable(_collapsed(value, problems)) for name, value in decode_params(pairs)[1:]}
    except (ValueError, TypeError, LookupError, AttributeError):
        problems.tell("A parameter of a header cannot be read.")
        return {}


def _collapsed(value: str | tuple[str | None, str | None, str], problems: Problems) -> str:
    if isinstance(value, str):
        return _unquoted(value)
    charset, _, quoted = value
    text = _unquoted(quoted)
    try:
        return text_of(text.encode("latin-1"), charset, problems)
    except UnicodeEncodeError:  # not percent-encoded, as it should be
        return text


def ids_of(raw: bytes, problems: Problems) -> tuple[str, ...]:
    """Return the message ids of a field in angle brackets, each once; of very many the first and the last."""
    text = one_line(decode(raw))
    if "<" in text:
        found = [f"<{''.join(inner.split())}>" for inner in _ID.findall(text)]
    else:
        found = [f"<{word.strip(',')}>" for word in text.split() if "@" in word]
    fitting = [one for one in dict.fromkeys(found) if 2 < len(one) <= MAX_ID and len(one.encode()) <= 2 * MAX_ID]
    if len(fitting) < len(set(found)):
        problems.tell(f"A message id is empty or longer than {MAX_ID} characters; it is left out.")
    if len(fitting) > MAX_REFERENCES:
        problems.tell(f"A header names more than {MAX_REFERENCES} message ids; those between are left out.")
        fitting = [fitting[0], *fitting[1 - MAX_REFERENCES :]]
    return tuple(fitting)


def date_of(raw: bytes, problems: Problems) -> datetime | None:
    """Return what a Date says, in UTC; None for one that is missing or that no reader holds."""
    text = one_line(decode(raw[:200]))
    if not text:
        return None
    date: datetime | None
    try:
        date = parsedate_to_datetime(text)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        date = None
    if date is None or not 2 <= date.year <= 9998:  # others are no moment in every zone
        problems.tell("The date cannot be read.")
        return None
    return date
