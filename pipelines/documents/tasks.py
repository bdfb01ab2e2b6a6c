"""Task types of the documents pipeline, and how their handlers' resources are made."""

from datetime import timedelta
from importlib.util import find_spec

from core.errors import SettingsError
from core.settings import Settings
from pipelines.documents.delete import delete_document, delete_file
from pipelines.documents.embed import embed_chunks, embed_queries
from pipelines.documents.embedders import Embedders, Models
from pipelines.documents.fetching import Fetcher
from pipelines.documents.headers import HeaderTemplate
from pipelines.documents.ingest import chunk, ingest
from pipelines.documents.parsing import ParseLimits, ParserProcess
from pipelines.documents.payloads import (
    DOCUMENTS_QUEUE,
    EMBEDDING_QUEUE,
    ChunkDocument,
    CountTerms,
    DeleteDocument,
    DeleteFile,
    EmbedChunks,
    EmbedQuery,
    FillSpace,
    IngestDocument,
)
from pipelines.documents.spaces import fill
from pipelines.documents.terms import count_terms
from pipelines.registry import AnyTask
from pipelines.resources import Resources
from pipelines.storage import Storage, storage_of
from pipelines.task import UNCOUNTED, Task

TASKS: tuple[AnyTask, ...] = (
    Task(
        payload=IngestDocument,
        batch_size=8,
        run=ingest,
        queue=DOCUMENTS_QUEUE,
        time_limit=timedelta(minutes=15),
        # It snoozes while the parser has another document, about twenty times for one that uses up its 300 s: room for
        # five hundred of those before it. And each time that its file got other bytes while it was read.
        max_snoozes=10_000,
    ),
    # Before the ingests that wait: parser and model work side by side, and the first document of many is found early.
    Task(payload=ChunkDocument, run=chunk, queue=DOCUMENTS_QUEUE, priority=10, time_limit=timedelta(minutes=15)),
    Task(
        payload=EmbedChunks,
        run_batch=embed_chunks,
        queue=EMBEDDING_QUEUE,
        batch_size=4,
        time_limit=timedelta(minutes=15),
        # As often as its endpoint refuses for now: for months, at the longest pause between two looks.
        max_snoozes=100_000,
    ),
    Task(payload=DeleteDocument, run=delete_document, queue=DOCUMENTS_QUEUE),
    # Alone: a store elsewhere may hang, and nobody's outcome shall wait for it. And for two days: what is left there is
    # somebody's data.
    Task(payload=DeleteFile, run=delete_file, queue=DOCUMENTS_QUEUE, batch_size=1, max_attempts=50),
    # Before the ingests that ask for it, or it would come after the last of them.
    Task(payload=CountTerms, run=count_terms, queue=DOCUMENTS_QUEUE, priority=50),
    # It waits for what it has enqueued, which may take days.
    Task(payload=FillSpace, run=fill, queue=DOCUMENTS_QUEUE, scope="system", batch_size=1, max_snoozes=UNCOUNTED),
    # Somebody waits for it: before everything else, and not worth repeating for long.
    Task(
        payload=EmbedQuery,
        run_batch=embed_queries,
        queue=EMBEDDING_QUEUE,
        batch_size=16,
        priority=100,
        max_attempts=2,
        time_limit=timedelta(seconds=60),
    ),
)


def provide(resources: Resources, settings: Settings) -> None:
    """Say how storage, parser, splitter and model are made; each is made at its first use.

    Raises SettingsError where scans shall be read and nothing is installed that reads them.
    """
    if settings.documents.ocr and not (find_spec("rapidocr") and find_spec("onnxruntime")):
        raise SettingsError(
            "scans are read by what is not installed: `greenroom[ocr]`, or GREENROOM_DOCUMENTS_OCR=false"
        )
    limits = ParseLimits(
        max_bytes=settings.documents.max_bytes,
        max_pages=settings.documents.max_pages,
        max_seconds=settings.documents.parser_seconds,
        max_memory_bytes=settings.documents.parser_memory,
        max_characters=settings.documents.max_characters,
    )
    resources.provide(Storage, lambda: storage_of(settings))
    resources.provide(ParseLimits, lambda: limits)
    language, reads_pictures = settings.documents.language, settings.documents.ocr
    resources.provide(ParserProcess, lambda: ParserProcess(language=language, reads_pictures=reads_pictures))
    resources.provide(
        Fetcher,
        lambda: Fetcher(
            max_bytes=settings.documents.max_bytes,
            seconds=settings.documents.fetch_seconds,
            networks=settings.documents.fetch_networks,
        ),
    )
    resources.provide(HeaderTemplate, lambda: HeaderTemplate(settings.documents.chunk_header))
    resources.provide(Models, lambda: Models(settings))
    resources.provide(Embedders, lambda: Embedders(resources.get(Models), settings))
