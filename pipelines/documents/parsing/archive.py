"""Formats that are ZIP archives, opened within limits: what they unpack to, and what XML in them may not do."""

from io import BytesIO
from typing import Any
from zipfile import BadZipFile, ZipFile

from pipelines.documents.errors import BrokenFileError, TooLargeError
from pipelines.documents.parsing.types import ParseLimits

CORE_PROPERTIES = "docProps/core.xml"

_CONTENT_TYPES = "[Content_Types].xml"
_MAX_MEMBERS = 20_000


class Archive:
    """The members of an archive. Raises TooLargeError for one that unpacks to more than the limits allow."""

    def __init__(self, data: bytes, limits: ParseLimits) -> None:
        try:
            self._zip = ZipFile(BytesIO(data))
        except (BadZipFile, NotImplementedError, ValueError):
            raise BrokenFileError("The file's archive is damaged; transfer or save it again.") from None
        members = self._zip.infolist()
        # zipfile hands out no more of a member than its directory says, so the sum of what that says is a bound.
        unpacked = sum(member.file_size for member in members)
        if unpacked > limits.max_unpacked_bytes or len(members) > _MAX_MEMBERS:
            raise TooLargeError(
                f"The file unpacks to {unpacked} bytes in {len(members)} parts, {limits.max_unpacked_bytes} bytes in "
                f"{_MAX_MEMBERS} parts are allowed; split it or raise the limit."
            )
        self.names = frozenset(member.filename for member in members)

    def read(self, name: str) -> bytes:
        """Return a member's content; raises BrokenFileError where it is missing or damaged."""
        try:
            return self._zip.read(name)
        except (KeyError, BadZipFile, NotImplementedError, EOFError, ValueError, OSError):
            raise BrokenFileError("A part of the file's archive is missing or damaged; save it again.") from None


def as_main_type(data: bytes, main_type: str, others: tuple[str, ...]) -> bytes:
    """Return an Office file whose main part says to be of one type, where it says one of the others.

    Templates, slide shows and files with macros are built alike; the libraries that read them look at the name only.
    """
    with ZipFile(BytesIO(data)) as archive:
        types = archive.read(_CONTENT_TYPES).decode("utf-8", "replace")
        if not any(f'"{other}"' in types for other in others):
            return data
        for other in others:
            types = types.replace(f'"{other}"', f'"{main_type}"')
        content = BytesIO()
        with ZipFile(content, "w") as changed:
            for name in dict.fromkeys(archive.namelist()):
                changed.writestr(name, types if name == _CONTENT_TYPES else archive.read(name))
    return content.getvalue()


def xml_root(data: bytes) -> Any:
    """Return the root of an XML text; neither entities nor external references are followed."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        raise BrokenFileError("A part of the file is not well-formed XML; save it again.") from None
