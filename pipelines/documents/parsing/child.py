"""The parser's process: `python -m pipelines.documents.parsing.child`, run by `process` and by nobody else.

The only importer of unstructured and spaCy. It reads requests and writes answers (both `wire` frames) on the pipes it
was started with, one document at a time, and never opens a connection. It ends when its standard input does, in the
middle of a document too, so it cannot outlive its parent.
"""

import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import PermanentError
from pipelines.documents.errors import NoTextError, ParserOutOfMemoryError, TooLargeError
from pipelines.documents.parsing import wire
from pipelines.documents.parsing.formats import HTML, MARKDOWN, PDF, recognise, too_odd
from pipelines.documents.parsing.markup import Partitioners, blocks_of_html, blocks_of_markdown, html_title
from pipelines.documents.parsing.pdf import parse_pdf
from pipelines.documents.parsing.plain import blocks_of_plain
from pipelines.documents.parsing.types import Block, ParsedDocument, ParseLimits, normalise
from pipelines.documents.storage import open_regular

_CLASSIFIED_CHARACTERS = 4_000
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
    except Exception:  # whatever a parser raises on foreign input; its text may quote the document
        return wire.error_message(too_odd("file"))


def _parse(request: wire.Request, answers: BinaryIO) -> ParsedDocument:
    limits = request.limits
    data = _read(request.path, limits)
    media_type, text = recognise(data, request.media_type)
    if media_type in (HTML, MARKDOWN):
        _load()
    with _limited(limits):
        wire.write(answers, {"state": "parsing"})  # from here on the parent's clock runs
        return _checked(parse_pdf(data, limits) if media_type == PDF else _parse_text(media_type, text), limits)


def _load() -> None:
    """Import what parses markup; a failure there is the installation's, so the process ends and no file is blamed."""
    try:
        _partitioners()
    except Exception as error:
        # Nothing of a document is in it: none was parsed yet.
        sys.stderr.write(f"parser: {type(error).__name__}: {error}\n")
        os._exit(3)  # sys.exit would abort: the other thread holds standard input


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


def _parse_text(media_type: str, source: str) -> ParsedDocument:
    text = normalise(source)
    if media_type == HTML:
        blocks = tuple(blocks_of_html(text, _partitioners().html))
        return ParsedDocument(html_title(text) or _first_title(blocks), media_type, blocks)
    if media_type == MARKDOWN:
        blocks = tuple(blocks_of_markdown(text, _partitioners().markdown))
    else:
        blocks = tuple(blocks_of_plain(text))
    return ParsedDocument(_first_title(blocks), media_type, blocks)


def _first_title(blocks: Iterable[Block]) -> str | None:
    title = next((block for block in blocks if block.kind == "title"), None)
    return title.section.rpartition("\u203a")[2].strip() if title and title.section else None


def _checked(document: ParsedDocument, limits: ParseLimits) -> ParsedDocument:
    if not document.blocks:
        raise NoTextError("The file holds no text (scripts, pictures or scans only); ingest one that has text.")
    if sum(len(block.text) for block in document.blocks) > limits.max_characters:
        raise TooLargeError(
            f"The file's text is longer than the allowed {limits.max_characters} characters; split the file."
        )
    return document


@cache
def _partitioners() -> Partitioners:
    """Import unstructured with its language model replaced; 5 to 6 s, once a process."""
    import spacy
    from unstructured.nlp import tokenize
    from unstructured.partition.html import parser, partition, partition_html
    from unstructured.partition.md import partition_md

    # unstructured would download en_core_web_sm. It uses it to tell narrative text from other text, a difference that
    # no Block keeps: titles, lists, code and tables came out the same from a blank pipeline, two to nine times as fast.
    language = spacy.blank("en")
    language.add_pipe("sentencizer")
    # Longer texts are cut for this classification only; their elements keep every character.
    language.max_length = _CLASSIFIED_CHARACTERS
    tokenize._get_nlp = lambda: language  # type: ignore[assignment]

    # Its parser drops a text of some 10 million characters, and what is nested very deep, without a word.
    patient = type(parser.html_parser)(remove_comments=True, remove_pis=True, huge_tree=True)
    patient.set_element_class_lookup(parser.element_class_lookup)
    partition.html_parser = patient  # type: ignore[attr-defined]

    # languages=[""] switches language detection off: two thirds of the time, and its result is not kept.
    return Partitioners(
        html=lambda source: partition_html(text=source, languages=[""]),
        markdown=lambda source: partition_md(text=source, languages=[""]),
    )


if __name__ == "__main__":
    main()
