"""What a ZIP archive or an OLE compound file is, by what is in it."""

from io import BytesIO
from typing import Final
from zipfile import BadZipFile, ZipFile

from pipelines.documents.errors import BrokenFileError, EncryptedFileError

_OFFICE: Final = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
ENCRYPTED: Final = 0x1
"""The flag of a member of an archive that needs a password (APPNOTE.TXT, 4.4.4)."""
_MIMETYPE: Final = "mimetype"
_MAX_MIMETYPE: Final = 200


def in_archive(data: bytes) -> str | None:
    """Return the media type of an archive, None where it is none that says so itself.

    Raises EncryptedFileError for one with a password, BrokenFileError for one without the directory at its end.
    """
    try:
        archive = ZipFile(BytesIO(data))
    except (BadZipFile, NotImplementedError, ValueError, OSError):
        raise BrokenFileError("The file's archive is cut off or damaged; transfer or save it again.") from None
    names = archive.namelist()
    if any(member.flag_bits & ENCRYPTED for member in archive.infolist()):
        raise EncryptedFileError("The file is encrypted; remove its password and ingest it again.")
    if _MIMETYPE in names and archive.getinfo(_MIMETYPE).file_size <= _MAX_MIMETYPE:
        try:
            return archive.read(_MIMETYPE).decode("ascii", "replace").strip().removesuffix("-template")
        except (BadZipFile, NotImplementedError, ValueError, OSError, EOFError):
            return None
    if "[Content_Types].xml" not in names:
        return None
    return next((kind for folder, kind in _OFFICE.items() if any(name.startswith(folder) for name in names)), None)


def in_compound(data: bytes) -> str | None:
    """Return the media type of a compound file that is read, else None; raises EncryptedFileError."""
    import olefile

    try:
        with olefile.OleFileIO(data) as compound:
            names = {"/".join(path) for path in compound.listdir()}
    except Exception:  # whatever it raises on a damaged one; only what is in it is asked here
        return None
    if "EncryptedPackage" in names:
        raise EncryptedFileError("The document needs a password; save it without and ingest it again.")
    if "__properties_version1.0" in names:
        return "application/vnd.ms-outlook"
    return "application/vnd.ms-excel" if names & {"Workbook", "Book"} else None
