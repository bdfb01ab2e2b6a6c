"""Formats that are ZIP archives, opened within limits: what they unpack to, and what XML in them may not do."""

from io import BytesIO
from typing import Any
from zipfile import BadZipFile, ZipFile

from pipelines.documents.errors import BrokenFileError, EncryptedFileError, TooLargeError
from pipelines.documents.parsing.types import ParseLimits

_ENCRYPTED = 0x1
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
        if any(member.flag_bits & _ENCRYPTED for member in members):
            raise EncryptedFileError("The file is encrypted; remove its password and ingest it again.")
        self.names = frozenset(member.filename for member in members)

    def read(self, name: str) -> bytes:
        """Return a member's content; raises BrokenFileError where it is missing or damaged."""
        try:
            return self._zip.read(name)
        except (KeyError, BadZipFile, NotImplementedError, EOFError, ValueError, OSError):
            raise BrokenFileError("A part of the file's archive is missing or damaged; save it again.") from None


def xml_root(data: bytes) -> Any:
    """Return the root of an XML text; neither entities nor external references are followed."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        raise BrokenFileError("A part of the file is not well-formed XML; save it again.") from None
