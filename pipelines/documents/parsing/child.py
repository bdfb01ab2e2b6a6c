"""The parser's process: `python -m pipelines.documents.parsing.child`, run by `process` and by nobody else.

The only one that imports readers. It reads requests and writes answers (both `wire` frames) on the pipes it
was started with, one document at a time, and never opens a connection. It ends when its standard input does, in the
middle of a document too, so it cannot outlive its parent.
"""

import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import PermanentError
from pipelines.documents.errors import NoTextError, ParserOutOfMemoryError, TooLargeError
from pipelines.documents.parsing import language, readers, wire
from pipelines.documents.parsing.archive import Archive
from pipelines.documents.parsing.formats import (
    EML,
    EPUB,
    HTML,
    MARKDOWN,
    MSG,
    PDF,
    PICTURES,
    Format,
    recognise,
    too_odd,
)
from pipelines.documents.parsing.types import (
    SECTION_SEPARATOR,
    Block,
    ParsedDocument,
    ParseLimits,
    Reading,
    Source,
    normalise,
)
from pipelines.storage.base import open_regular

# Of these, some or all parts are read as HTML.
_MARKED_UP = (HTML, MARKDOWN, EPUB, EML, MSG)
Reader = Callable[[Source], Reading]

_NO_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind")


def main() -> None:
    """Answer requests until standard input ends."""
    answers = _private_output()
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse_network)
    requests = _watch(sys.stdin.buffer)
    while True:
        request = requests.get()
        wire.write(answers, _answer(request, answers))


def _private_output() -> BinaryIO:
    """Keep the answers' pipe to ourselves: what a library prints must not get between the frames."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _refuse_network(event: str, _: tuple[Any, ...]) -> None:
    if event in _NO_NETWORK:
        raise PermissionError("the parser does not use the network")


def _watch(source: BinaryIO) -> "queue.SimpleQueue[wire.Request]":
    """Read requests in a thread of its own, which sees the end of the input while a document is being parsed."""
    requests: queue.SimpleQueue[wire.Request] = queue.SimpleQueue()

    def read() -> None:
        while (message := wire.read(source)) is not None:
            requests.put(wire.request_from(message))
        os._exit(0)

    threading.Thread(target=read, name="requests", daemon=True).start()
    return requests


def _answer(request: wire.Request, answers: BinaryIO) -> wire.Message:
    try:
        return wire.document_message(_parse(request, answers))
    except PermanentError as error:
        return wire.error_message(error)
    except MemoryError:
        limit = request.limits.max_memory_bytes // 1_000_000
        return wire.error_message(
            ParserOutOfMemoryError(f"Parsing needs more than {limit} MB of memory; split the file or raise the limit.")
        )
    except BaseException:  # whatever a parser raises on foreign input, a panic of Rust's too; its text may quote it
        return wire.error_message(too_odd("file"))


def _parse(request: wire.Request, answers: BinaryIO) -> ParsedDocument:
    limits = request.limits
    data = _read(request.path, limits)
    with _limited(limits):
        known, text = recognise(data, request.media_type, reads_pictures=request.reads_pictures)
    read = _load(known, request)
    with _limited(limits):
        wire.write(answers, {"state": "parsing"})  # from here on the parent's clock runs
        if known.is_archive:
            Archive(data, limits)  # before a library unpacks it whole
        reading = read(Source(data, normalise(text), known.media_type, limits, request.reads_pictures))
        blocks = tuple(_checked(reading.blocks, limits))
        title = " ".join(normalise(reading.title or "").split()) or _first_title(blocks)
        parsed = ParsedDocument(title, known.media_type, blocks)
        is_auto = request.language == language.AUTO
        return replace(parsed, language=language.language_of(parsed.text) if is_auto else request.language)


def _load(known: Format, request: wire.Request) -> Reader:
    """Import what will be needed; a failure there is the installation's, so the process ends and no file is blamed."""
    module, _, function = known.reader.partition(".")
    try:
        if known.media_type in _MARKED_UP:
            import_module(f"{readers.__name__}.markup").partitioners()
        if request.reads_pictures and known.media_type in (PDF, *PICTURES):
            import_module(f"{readers.__name__}.pictures").engine()
        if request.language == language.AUTO:
            language.load()
        found: Reader = getattr(import_module(f"{readers.__name__}.{module}"), function)
    except Exception as error:
        # Nothing of a document is in it: none was parsed yet.
        sys.stderr.write(f"parser: {type(error).__name__}: {error}\n")
        os._exit(3)  # sys.exit would abort: the other thread holds standard input
    return found


def _read(path: Path, limits: ParseLimits) -> bytes:
    with open_regular(path) as reading:
        data = reading.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"The file is larger than the allowed {limits.max_bytes} bytes; split it.")
    return data


@contextmanager
def _limited(limits: ParseLimits) -> Iterator[None]:
    """Bound what one document may use beyond what the process used before it; lifted for the imports of the next."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # The parent's clock is the limit that counts; this one stops a parser whose parent hangs.
    seconds = int(usage.ru_utime + usage.ru_stime + limits.max_seconds) + 2
    bounds = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_AS: limits.max_memory_bytes, resource.RLIMIT_FSIZE: 0}
    try:
        for which, bound in bounds.items():
            resource.setrlimit(which, (bound, resource.RLIM_INFINITY))
        yield
    finally:
        for which in bounds:
            resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _first_title(blocks: Iterable[Block]) -> str | None:
    title = next((block for block in blocks if block.kind == "title"), None)
    return title.section.rpartition(SECTION_SEPARATOR)[2] if title and title.section else None


def _checked(blocks: Iterable[Block], limits: ParseLimits) -> Iterator[Block]:
    """Pass blocks on; raises NoTextError for none, TooLargeError as soon as they are more text than is allowed."""
    characters = 0
    for block in blocks:
        characters += len(block.text) + len(block.section or "")
        if characters > limits.max_characters:
            raise TooLargeError(
                f"The file's text is longer than the allowed {limits.max_characters} characters; split the file."
            )
        yield block
    if not characters:
        raise NoTextError(
            "The file holds no text (scripts, pictures or scans only); ingest one that has text, or have scans read by "
            "GREENROOM_DOCUMENTS_OCR."
        )


if __name__ == "__main__":
    main()
