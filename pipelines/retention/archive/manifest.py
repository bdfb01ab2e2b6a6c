"""`manifest.json`: what one part of an archive holds, where, and how to tell that it is whole."""

import hashlib
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.retention.archive.errors import ChangedArchiveError

NAME = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileColumn(_Model):
    """A column of the table as the file has it; `type` is Postgres', beneath a domain."""

    name: str
    type: str


class ArchivedFile(_Model):
    """One Parquet file: rows of a table, or links, which are keys of rows that stay and what they referred by.

    Beside `columns` each file has `_row_hash` (hashtextextended of the row's text), `_page` (from 0; pages of a part's
    files belong together) and, for rows, `_subjects` (whom the row speaks of: `kind:uuid`, parted by spaces).
    The first file is that of the table itself. `bytes` and `sha256` are the whole file's.
    """

    key: str
    table: str
    kind: Literal["rows", "links"]
    rows: int
    bytes: int
    sha256: str
    columns: tuple[FileColumn, ...]


class Manifest(_Model):
    """What a part holds. `format` rises when a reader of before would read it wrongly.

    `since` and `until` are the least and the greatest time of the age column, `hash_sum` the sum of the row hashes of
    the first file.
    """

    format: Literal[1] = 1
    archive_id: UUID
    policy_name: str
    tenant_id: UUID | None
    table: str
    age_column: str
    key_columns: tuple[str, ...]
    month: date
    part: int
    rows: int
    hash_sum: int
    since: datetime
    until: datetime
    schema_revision: str
    files: tuple[ArchivedFile, ...]

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def decode(cls, content: bytes, key: str, sha256: str | None = None) -> "Manifest":
        """Read a manifest; raises ChangedArchiveError for one that is not whole, or that this program cannot read."""
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ChangedArchiveError(key, "has other bytes than were written")
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            raise ChangedArchiveError(key, "is no manifest that this program reads") from None


def folder_of(table: str, month: date, part: int, archive_id: UUID) -> str:
    """Return the folder of a part's keys."""
    return f"{table}/{month:%Y-%m}/{part:04}-{archive_id}"
