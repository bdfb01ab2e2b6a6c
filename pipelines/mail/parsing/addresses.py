"""Who a mail is from and to: addresses without their names, from fields however broken."""

import re
from email.errors import MessageError
from email.policy import default
from typing import Final

from pipelines.documents.parsing.decoding import decode
from pipelines.mail.parsing.types import Problems
from pipelines.mail.texts import one_line

MAX_ADDRESS: Final = 255
MAX_ADDRESSES: Final = 5_000

# Of one recipient: quoted strings, comments and what is in angle brackets may hold commas.
_RECIPIENT: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|\((?:[^()\\]|\\.)*+\)|<[^<>,;]*+>|[^,;])++')
_PLAIN: Final = re.compile(r'[^<>()",;:\\@\[\]]*+<([^\s<>()",;:\\@\[\]]++@[^\s<>()",;:\\@\[\]]++)>')
_BARE: Final = re.compile(r'[^\s<>()",;:\\@\[\]]++@[^\s<>()",;:\\@\[\]]++')
_WHOLE: Final = re.compile(r"""(?:[^\s<>()",;:\\@\[\]]++|"(?:[^"\\<>]|\\.)++")@[^\s<>()",;\\@]++""")
_LOCAL: Final = re.compile(r"<?([\w.+-]{1,64})>?", re.ASCII)
_ANGLED: Final = re.compile(r"<\s*+([^\s<>]++@[^\s<>]++)\s*+>")
_ANYWHERE: Final = re.compile(r'[^\s<>()",;:\\@\[\]]{1,128}+@[\w.-]++')
_MAX_PARSED: Final = 320
"""Longer ones are looked through for an address: the library's parser takes quadratic time."""
_MAX_TRIED: Final = 100
# What the library raises on addresses that break the rules.
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError, MessageError)


def addresses_of(raw: bytes, problems: Problems) -> tuple[str, ...]:
    """Return the addresses of a field, each once; members of groups are among them."""
    text = one_line(decode(raw))
    found: dict[str, None] = {}
    tried = 0
    for recipient in (match[0].strip() for match in _RECIPIENT.finditer(text)):
        if len(found) >= MAX_ADDRESSES:
            problems.tell(f"A header names more than {MAX_ADDRESSES} addresses; the rest of them is left out.")
            break
        tried += (plain := _plain(recipient)) is None
        here = [plain] if plain else _parsed(recipient, may_try=tried <= _MAX_TRIED)
        fitting = [address for address in here if len(address) <= MAX_ADDRESS]
        if (recipient and not here and not recipient.endswith(":")) or len(fitting) < len(here):
            problems.tell("An address cannot be read or is too long; it is left out.")
        found |= dict.fromkeys(fitting)
    return tuple(found)


def _plain(recipient: str) -> str | None:
    """Return the address of a recipient in the usual form."""
    if _BARE.fullmatch(recipient):
        return recipient
    found = _PLAIN.fullmatch(recipient)
    return found[1] if found else None


def _parsed(recipient: str, *, may_try: bool) -> list[str]:
    if may_try and len(recipient) <= _MAX_PARSED:
        try:
            listed = [one_line(one.addr_spec) for one in default.header_factory("To", recipient).addresses]
        except _UNREADABLE:
            listed = []
        if listed and all(map(_WHOLE.fullmatch, listed)):
            return listed
    return _searched(recipient)


def _searched(recipient: str) -> list[str]:
    """Return what looks like the address: in angle brackets, else anywhere, else a name of this machine (root)."""
    found = _ANGLED.findall(recipient)[-1:] or _ANYWHERE.findall(recipient)[:1]
    local = _LOCAL.fullmatch(recipient)
    return found or ([local[1]] if local else [])
