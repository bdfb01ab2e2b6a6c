"""The parent's side of the parser's process: start, ask, watch the clock, kill, recycle.

Invariant: after any failure the process is gone, and the next document starts a new one.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, cast

from pipelines.documents.errors import (
    BrokenFileError,
    EmptyFileError,
    ParserBusyError,
    ParserDiedError,
    ParserOutOfMemoryError,
    ParserTimeoutError,
    TooLargeError,
)
from pipelines.documents.parsing import wire
from pipelines.documents.parsing.language import AUTO
from pipelines.documents.parsing.types import ParsedDocument, ParseLimits
from pipelines.storage.base import open_regular

_ROOT: Final = Path(__file__).resolve().parents[3]
_START_SECONDS: Final = 120.0
_CRASHES: Final = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
_TURN_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 2.0
_PIECE: Final = 1 << 20
_ENVIRONMENT: Final = {
    # No telemetry, no download, whatever a library would like to do on import.
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "1",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # One document at a time on one core; arenas and thread stacks would count against the address space.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


class ParserProcess:
    """One parser process, started by the first document and reused; one document at a time.

    `documents_per_process` bounds what a leak in a parser can add up to. Safe to use from many threads: whoever finds
    it busy is sent away, for a slow file would otherwise park every thread of a worker behind it. `language` is the
    text search configuration of every document; auto: of what each is written in. `reads_pictures`: scans are read, by
    the extra `ocr`.
    """

    def __init__(self, *, documents_per_process: int = 200, language: str = AUTO, reads_pictures: bool = False) -> None:
        self._documents_per_process = documents_per_process
        self._language = language
        self._reads_pictures = reads_pictures
        self._lock = threading.RLock()  # `parse` takes the turn that its caller may have
        self._process: subprocess.Popen[bytes] | None = None
        self._parsed = 0
        self._began = 0.0

    def parse(self, path: Path, *, limits: ParseLimits, media_type: str | None = None) -> ParsedDocument:
        """Parse a file; `media_type` is what its name or its producer claims (`formats.media_type_of`).

        Raises the errors of `pipelines.documents.errors`: ParserBusyError and ParserDiedError may be tried again, the
        others not.
        """
        check_file(path, limits)
        with self.turn():
            request = wire.Request(path.absolute(), media_type, limits, self._language, self._reads_pictures)
            answer = self._ask(request)
        if "error" in answer:
            raise wire.error_from(answer)
        return wire.document_from(answer)

    def close(self) -> None:
        """End the process. Twice is fine, and a later `parse` starts a new one."""
        with self._lock:
            self._end()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the process for one document; raises ParserBusyError after the time that most documents take.

        For whoever has to do something costly before `parse`, and had better not do it in vain.
        """
        if not self._lock.acquire(timeout=_TURN_SECONDS):
            # A file that took long so far takes longer still: looking a quarter later wastes little, and looks seldom.
            seconds = max(_PAUSE_SECONDS, (time.monotonic() - self._began) / 4)
            raise ParserBusyError(timedelta(seconds=seconds))
        try:
            self._began = time.monotonic()
            yield
        finally:
            self._lock.release()

    def _ask(self, request: wire.Request) -> wire.Message:
        process = self._running()
        try:
            answer = _exchange(process, request)
        except BaseException:
            self._end()
            raise
        self._parsed += 1
        # A process that ran out of memory may have lost anything; a full one has served its time.
        if answer.get("error") == ParserOutOfMemoryError.__name__ or self._parsed >= self._documents_per_process:
            self._end()
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = _start()
            self._parsed = 0
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _kill(process)


def check_file(path: Path, limits: ParseLimits) -> None:
    """Refuse what its size alone refuses, without reading it: EmptyFileError, TooLargeError, `open_regular`'s."""
    with open_regular(path) as reading:
        size = os.fstat(reading.fileno()).st_size
    if size == 0:
        raise EmptyFileError("The file is empty; ingest a file that has content.")
    if size > limits.max_bytes:
        raise TooLargeError(f"The file has {size} bytes, {limits.max_bytes} are allowed; split it or raise the limit.")


def _start() -> subprocess.Popen[bytes]:
    # The parser reads foreign files: it gets none of our settings, and with them no secret.
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    environment |= _ENVIRONMENT | {"PYTHONPATH": str(_ROOT), "HOME": tempfile.gettempdir()}
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "pipelines.documents.parsing.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries quote documents there
        cwd="/",
        env=environment,
        close_fds=True,
        start_new_session=True,  # a terminal's Ctrl-C is the parent's to handle
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in _pipes(process):
        with contextlib.suppress(BrokenPipeError):  # what was not sent any more is of no interest
            pipe.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the parser is started with pipes")
    return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)


def _exchange(process: subprocess.Popen[bytes], request: wire.Request) -> wire.Message:
    requests, answers = _pipes(process)
    seconds = request.limits.max_seconds
    try:
        wire.write(requests, wire.request_message(request))
        # First the parser says that it begins: its start and its imports are not the document's fault.
        begins = _receive(answers, time.monotonic() + _START_SECONDS)
        return begins if "state" not in begins else _receive(answers, time.monotonic() + seconds)
    except TimeoutError:
        raise ParserTimeoutError(
            f"Parsing took longer than {seconds:g} s; split the file or raise the limit."
        ) from None
    except (BrokenPipeError, EOFError):
        raise _death(process, seconds) from None


def _death(process: subprocess.Popen[bytes], seconds: float) -> Exception:
    code = process.wait()
    if code == -signal.SIGXCPU:
        return ParserTimeoutError(f"Parsing took longer than {seconds:g} s; split the file or raise the limit.")
    cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    if -code in _CRASHES:  # it would crash again, and take a parser along each time
        return BrokenFileError(f"The parser crashed over the file ({cause}): it is damaged, or needs too much memory.")
    return ParserDiedError(f"The parser's process ended without an answer ({cause}); another attempt starts a new one.")


def _receive(pipe: BinaryIO, deadline: float) -> wire.Message:
    (length,) = wire.HEADER.unpack(_read_exactly(pipe, wire.HEADER.size, deadline))
    if length > wire.MAX_MESSAGE:
        raise EOFError
    return wire.decode(_read_exactly(pipe, length, deadline))


def _read_exactly(pipe: BinaryIO, length: int, deadline: float) -> bytes:
    """Read `length` bytes, past Python's buffer, so that waiting can have a deadline."""
    handle = pipe.fileno()
    waiting = select.poll()  # select() fails on descriptors above 1023
    waiting.register(handle, select.POLLIN)
    content = bytearray()
    while len(content) < length:
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(handle, min(length - len(content), _PIECE))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)
