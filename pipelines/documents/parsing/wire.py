"""What parent and parser say to each other: JSON messages, each after its length in four bytes, big end first.

JSON and not pickle: a parser that was taken over by a document must not be able to run code in its parent.
"""

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from core.errors import PermanentError
from pipelines.documents import errors
from pipelines.documents.parsing.types import Block, ParsedDocument, ParseLimits
from pipelines.storage import errors as storage_errors

Message = dict[str, Any]

HEADER: Final = struct.Struct(">I")
MAX_MESSAGE: Final = 1 << 30


@dataclass(frozen=True)
class Request:
    """One document to parse."""

    path: Path
    media_type: str | None
    limits: ParseLimits
    language: str
    """A text search configuration of Postgres, or auto."""
    reads_pictures: bool = False


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    # What a reader forgot to normalise must not end the process that it runs in.
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return HEADER.pack(len(body)) + body


def write(pipe: BinaryIO, message: Message) -> None:
    """Send a message whole."""
    pipe.write(encode(message))
    pipe.flush()


def read(pipe: BinaryIO) -> Message | None:
    """Wait for the next message; None when the other side has ended."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = pipe.read(length)
    return decode(body) if len(body) == length else None


def decode(body: bytes) -> Message:
    """Return the message in a frame's body."""
    message: Message = json.loads(body)
    return message


def request_message(request: Request) -> Message:
    """Return the message of a request. Paths are bytes to the system: odd ones travel as surrogate escapes."""
    path = str(request.path).encode("utf-8", "surrogateescape").hex()
    facts = {"media_type": request.media_type, "language": request.language}
    return {"path": path, "limits": asdict(request.limits), "reads_pictures": request.reads_pictures} | facts


def request_from(message: Message) -> Request:
    """Return the request in a message."""
    path = bytes.fromhex(message["path"]).decode("utf-8", "surrogateescape")
    limits = ParseLimits(**message["limits"])
    return Request(Path(path), message["media_type"], limits, message["language"], message["reads_pictures"])


def document_message(document: ParsedDocument) -> Message:
    """Return the answer that carries a document."""
    blocks = [(block.text, block.kind, block.page, block.section) for block in document.blocks]
    facts = {"title": document.title, "media_type": document.media_type, "language": document.language}
    return {"document": facts | {"blocks": blocks}}


def document_from(message: Message) -> ParsedDocument:
    """Return the document in an answer."""
    facts = message["document"]
    blocks = tuple(Block(*block) for block in facts["blocks"])
    return ParsedDocument(facts["title"], facts["media_type"], blocks, facts["language"])


def error_message(error: PermanentError) -> Message:
    """Return the answer that carries a refusal."""
    return {"error": type(error).__name__, "text": str(error)}


def error_from(message: Message) -> PermanentError:
    """Return the refusal in an answer: one of this pipeline's classes or the storage's, whatever the parser wrote."""
    name, text = str(message["error"]), str(message["text"])
    for found in (getattr(errors, name, None), getattr(storage_errors, name, None)):
        if isinstance(found, type) and issubclass(found, PermanentError):
            return found(text)
    return errors.DocumentRefusedError(text)
