"""What a ZIP archive or an OLE compound file is, by what is in it."""

from io import BytesIO
from typing import Final
from zipfile import BadZipFile, ZipFile

from pipelines.documents.errors import EncryptedFileError

_OFFICE: Final = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_MIMETYPE: Final = "mimetype"
_MAX_MIMETYPE: Final = 200


def in_archive(data: bytes) -> str | None:
    """Return the media type of an archive, None where it is none that says so itself."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            if _MIMETYPE in names and archive.getinfo(_MIMETYPE).file_size <= _MAX_MIMETYPE:
                return archive.read(_MIMETYPE).decode("ascii", "replace").strip().removesuffix("-template")
    except (BadZipFile, NotImplementedError, ValueError, OSError, RuntimeError, EOFError):
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
