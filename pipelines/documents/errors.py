"""Why a document cannot be ingested: one class a cause, each a plain sentence that says what to do.

PermanentError
├── FileRefusedError                of pipelines.storage: the storage will not take or give the file
│   └── DocumentRefusedError        the file itself has to change
│       ├── EmptyFileError          zero bytes
│       ├── NoTextError             a valid file without any text
│       ├── TooLargeError           more bytes or characters than the limits allow
│       ├── TooManyPagesError       more pages than the limits allow
│       ├── WrongTypeError          the content is not what the name says, or a format that we do not read
│       ├── BrokenFileError         damaged
│       ├── TruncatedFileError      cut off before its end
│       ├── EncryptedFileError      needs a password
│       ├── ParserTimeoutError      parsing did not end in the time that the limits allow
│       └── ParserOutOfMemoryError  parsing needs more memory than the limits allow
├── AddressRefusedError             a URL that leads where no file is fetched from
├── FetchRefusedError               a server that will not give the file
├── ModelFilesError                 the embedding model's files are missing or not the pinned ones
└── VectorsError                    the model computed a vector that nothing can be found by
RetryableError
├── UnknownModelError               this process has not the model that a space was made by
├── ParserBusyError                 another document is being parsed; its `retry_after` says when to look again
└── ParserDiedError                 the parser's process ended by itself; another attempt starts a new one

The texts name sizes, limits and formats, never the document's content: they are logged and shown to operators.
"""

from datetime import timedelta

from core.errors import PermanentError, RetryableError
from pipelines.storage.errors import FileRefusedError


class DocumentRefusedError(FileRefusedError):
    """The document cannot be ingested as it is."""


class EmptyFileError(DocumentRefusedError):
    """The file has no bytes."""


class NoTextError(DocumentRefusedError):
    """The file is valid and holds no text, for example a page of scripts or a scanned PDF."""


class TooLargeError(DocumentRefusedError):
    """The file or its text exceeds a limit."""


class TooManyPagesError(DocumentRefusedError):
    """The document has more pages than the limits allow."""


class WrongTypeError(DocumentRefusedError):
    """The content is of another format than the name or the declared type says, or of one that is not read."""


class BrokenFileError(DocumentRefusedError):
    """The file is damaged."""


class TruncatedFileError(DocumentRefusedError):
    """The file ends before its format's end mark."""


class EncryptedFileError(DocumentRefusedError):
    """The file needs a password to open."""


class ParserTimeoutError(DocumentRefusedError):
    """Parsing took longer than the limits allow."""


class ParserOutOfMemoryError(DocumentRefusedError):
    """Parsing needs more memory than the limits allow."""


class AddressRefusedError(PermanentError):
    """A URL leads to an address that no file is fetched from."""


class FetchRefusedError(PermanentError):
    """A server will not give the file, however often it is asked."""


class ModelFilesError(PermanentError):
    """The embedding model's files are missing, incomplete or not the pinned ones."""


class VectorsError(PermanentError):
    """A computed vector is not finite or all zero."""


class ParserBusyError(RetryableError):
    """The parser has another document; look again after `retry_after`."""

    retry_after: timedelta

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("The parser has another document; try again in a moment.", retry_after=retry_after)


class ParserDiedError(RetryableError):
    """The parser's process ended without an answer."""


class UnknownModelError(RetryableError):
    """This process has not the model that a space was made by; another one may."""
