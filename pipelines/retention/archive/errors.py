"""Why an archive cannot be written or read: each a plain sentence that says what to do.

RetryableError
└── ChangedArchiveError   the storage gave other bytes than it was given, or rows that are not what they were
PermanentError
└── UnfitValueError       a value that the archive's format cannot hold
"""

from core.errors import PermanentError, RetryableError


class ChangedArchiveError(RetryableError):
    """What came back from storage is not what was written; nothing was deleted because of it. `key` is the file's,
    `why` what is wrong with it."""

    def __init__(self, key: str, why: str) -> None:
        self.key, self.why = key, why
        super().__init__(f"the archive's file {key} {why}: look after the storage; no row was deleted for it")


class UnfitValueError(PermanentError):
    """A column holds a value that the archive's format has no room for."""
