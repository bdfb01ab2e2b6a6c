"""Why a file cannot be stored or read: each a plain sentence that says what to do.

PermanentError
├── FileRefusedError     the file itself has to change: no regular file, unreadable, too large, not what was stored
├── FileVanishedError    nothing stands where a file should
└── StoragePathError     a storage key that points outside its storage

The texts name sizes and limits, never a file's content: they are logged and shown to operators.
"""

from core.errors import PermanentError


class FileRefusedError(PermanentError):
    """The file cannot be taken as it is."""


class FileVanishedError(PermanentError):
    """The file does not exist (any more)."""


class StoragePathError(PermanentError):
    """A storage key points outside its storage."""
