"""Names of files made safe: one part of a path, nothing that hides or turns around what is shown."""

import re
import unicodedata
from typing import Final

MAX_NAME: Final = 255
"""Characters, and bytes of UTF-8: what file systems take."""

_MAX_GIVEN: Final = 4_096
_MAX_SUFFIX: Final = 20
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_SUFFIXES: Final = {
    "application/pdf": ".pdf", "application/zip": ".zip", "application/json": ".json", "application/rtf": ".rtf",
    "application/pgp-signature": ".asc", "application/pkcs7-signature": ".p7s", "application/pkcs7-mime": ".p7m",
    "application/vnd.ms-tnef": ".dat", "application/gzip": ".gz", "image/png": ".png", "image/jpeg": ".jpg",
    "image/gif": ".gif", "image/webp": ".webp", "message/rfc822": ".eml", "text/calendar": ".ics", "text/csv": ".csv",
    "text/html": ".html", "text/plain": ".txt", "text/vcard": ".vcf", "audio/mpeg": ".mp3", "video/mp4": ".mp4",
    "message/delivery-status": ".txt", "text/rfc822-headers": ".txt", "message/disposition-notification": ".txt",
}  # fmt: skip


def safe_name(given: str, number: int, media_type: str) -> str:
    """Return a file's name without path, control and format characters; one is made where nothing is left.

    `number` counts a mail's files from 1. A name that is too long keeps its ending.
    """
    name = re.split(r"[/\\]", given[-_MAX_GIVEN:].rstrip("/\\ "))[-1]
    name = "".join(" " if character.isspace() else character for character in name if _is_shown(character))
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", _few_marks(name)))
    name = " ".join(name.split()).strip(". ")
    if not name:
        name = f"attachment-{number}{_SUFFIXES.get(media_type, '.bin')}"
    if _DEVICE.match(name):
        name = f"_{name}"
    if media_type == "message/rfc822" and not name.lower().endswith(".eml"):
        name += ".eml"
    return _fitted(name)


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn"} or character in "\t\r\n"


def _few_marks(name: str) -> str:
    """Return a name without its combining characters where it has hundreds: they are no name, and slow."""
    marks = sum(1 for character in name if unicodedata.combining(character))
    return "".join(one for one in name if not unicodedata.combining(one)) if marks > MAX_NAME else name


def _fitted(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    ending = dot + suffix if stem and 0 < len(suffix.encode()) <= _MAX_SUFFIX else ""
    room = MAX_NAME - len(ending.encode())
    kept = name.removesuffix(ending).encode()
    return kept[:room].decode("utf-8", "ignore").rstrip(". ") + ending if len(kept) > room else name
