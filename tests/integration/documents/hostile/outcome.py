"""A file that somebody should not have written, and what has to come of it."""

from dataclasses import dataclass

from pipelines.documents import errors

LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "lollollol">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(10))
    + "]>"
)
"""Entities of which the last, `k`, would be ninety gigabytes."""
EXTERNAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
"""An entity, `a`, that would be a file of this machine."""
WICK = "The keeper trims the wick at dusk."
SECRET = "root:x:0"
"""What stands in a file of this machine that nothing may be read from."""


@dataclass(frozen=True)
class Case:
    """A file and its outcome: an error of a class, or a text that holds `holds` and nothing of `lacks`."""

    name: str
    content: bytes | str
    error: type[Exception] | None = None
    says: str = ""
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = (SECRET,)
    most: int | None = None
    """No more characters than that."""


_USUAL: dict[type[Exception], str] = {
    errors.BrokenFileError: "is damaged and cannot be read; save it anew",
    errors.EmptyFileError: "is empty|nothing but blank space",
    errors.EncryptedFileError: "is encrypted|needs a password",
    errors.NoTextError: "holds no text",
    errors.TruncatedFileError: "is cut off before its end",
    errors.WrongTypeError: "Greenroom reads|rename or replace it",
}


def refused(name: str, content: bytes | str, error: type[Exception], says: str = "") -> Case:
    """Return a file that is refused for good, with an error that says why: as usual for its class, or as told."""
    return Case(name, content, error, says or _USUAL.get(error, ""))


def reads(name: str, content: bytes | str, *holds: str, lacks: str = SECRET, most: int | None = None) -> Case:
    """Return a file whose text is read for all that is wrong with it; WICK unless told what it holds."""
    return Case(name, content, holds=holds or (WICK,), lacks=(SECRET, lacks), most=most)
