"""Handlers of `document.ingest` and `document.chunk`: from a stored file to the chunks of a new version."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from core.errors import RetryableError, UnavailableError
from db import documents, spaces
from pipelines.documents.embedders import Models
from pipelines.documents.errors import ParserBusyError
from pipelines.documents.headers import Headers, HeaderTemplate
from pipelines.documents.parsing import Block, ParsedDocument, ParseLimits, ParserProcess, media_type_of
from pipelines.documents.payloads import ChunkDocument, IngestDocument
from pipelines.documents.registering import register_path, register_url
from pipelines.documents.splitting import Chunk, split
from pipelines.documents.terms import enqueue_count
from pipelines.documents.versions import enqueue_slices, swap_if_complete
from pipelines.outcomes import Cancel, Done, Outcome, Snooze
from pipelines.resources import Resources
from pipelines.storage import Content, Storage
from pipelines.storage.errors import FileRefusedError
from pipelines.task import TaskContext
from pipelines.transaction import Transaction

# A file that changed while it was read may still be written to.
_AGAIN = timedelta(seconds=2)
# Bytes of a file that may take long: of a smaller text that is parsed is not worth a transaction of its own.
_WORTH_TELLING = 65_536


@dataclass(frozen=True, slots=True)
class _Source:
    """What an ingest reads: the document as it was found, and what its file held."""

    document: documents.Document
    storage: Storage
    tenant_id: UUID
    content: Content

    @property
    def is_unchanged(self) -> bool:
        """Whether the document was made of these bytes already."""
        return self.document.status == "completed" and self.document.content_hash == self.content.sha256

    def has_same_bytes(self) -> bool:
        """Look at the file once more: one that was named again, or is a producer's own, may hold other bytes."""
        return self.storage.stamp(self.tenant_id, self.document.file_path) == self.content.stamp


def ingest(context: TaskContext, payload: IngestDocument) -> Outcome:
    """Parse a document's file and keep its text as a new version."""
    try:
        if payload.path is not None:
            return register_path(context, payload, payload.path)
        if payload.url is not None:
            return register_url(context, payload, payload.url)
        return _ingest(context, payload)
    except UnavailableError as away:  # the storage: a document does not fail for that
        return Snooze(away.retry_after or _AGAIN)


def _ingest(context: TaskContext, payload: IngestDocument) -> Outcome:
    with context.read() as transaction:
        document = documents.get(transaction.connection, payload.document_id) if payload.document_id else None
    if document is None:
        return Cancel("the document was deleted, or is made of no file")
    try:
        # Before the file is read: whoever finds the parser busy comes back often, and must cost nothing.
        with context.resources.get(ParserProcess).turn():
            return _read(context, document, force=payload.force)
    except ParserBusyError as busy:
        return Snooze(busy.retry_after)


def _read(context: TaskContext, document: documents.Document, *, force: bool) -> Outcome:
    tenant_id, storage = context.require_tenant_id(), context.resources.get(Storage)
    with storage.open(tenant_id, document.file_path) as content:
        source = _Source(document, storage, tenant_id, content)
        if source.is_unchanged and not force:
            return Done(
                {"document_id": str(document.id), "unchanged": True}, lambda transaction: _hold(transaction, source)
            )
        if content.size >= _WORTH_TELLING:
            context.progress(0.05, "parsing")
        try:
            parsed = context.resources.get(ParserProcess).parse(
                content.path, media_type=media_type_of(document.name), limits=context.resources.get(ParseLimits)
            )
        except FileRefusedError:
            if _newest(context, source) is None:
                return Snooze(_AGAIN)
            raise
    newest = _newest(context, source)
    return Snooze(_AGAIN) if newest is None else _parsed(newest, parsed, tenant_id)


def _parsed(source: _Source, parsed: ParsedDocument, tenant_id: UUID) -> Done:
    document = source.document

    def apply(transaction: Transaction) -> None:
        _hold(transaction, source)
        version = documents.begin_version(
            transaction.connection,
            document,
            title=parsed.title,
            language=parsed.language,
            content_hash=source.content.sha256,
            mime_type=parsed.media_type,
            file_size=source.content.size,
            page_count=max((block.page for block in parsed.blocks if block.page), default=None),
        )
        documents.insert_text(transaction.connection, document, version, tenant_id, parsed.text, _blocks_of(parsed))
        transaction.enqueue(
            ChunkDocument(document_id=document.id, version=version), owner_kind="document", owner_id=document.id
        )

    return Done({"document_id": str(document.id), "characters": len(parsed.text)}, apply)


def chunk(context: TaskContext, payload: ChunkDocument) -> Outcome:
    """Split a version's text, give known chunks their vectors, and enqueue the embedding of the rest."""
    with context.read() as transaction:
        document = documents.get(transaction.connection, payload.document_id)
        stored = documents.get_text(transaction.connection, payload.document_id, payload.version)
        active = spaces.active_space(transaction.connection)
    if document is None or stored is None or document.next_version != payload.version:
        return Cancel("the version was superseded or the document deleted")
    rows = _rows_of(document, _parsed_of(document, *stored), context.resources, active)

    def apply(transaction: Transaction) -> None:
        connection = transaction.connection
        if documents.lock(connection, document.id) != payload.version:
            return  # superseded while this was split: nobody would ever read or remove the chunks
        documents.insert_chunks(connection, document.id, payload.version, rows)
        is_complete = True
        for space in spaces.kept(connection):  # all of them, so that each can be switched to
            documents.copy_vectors(connection, document.id, payload.version, space.id)
            missing = documents.missing_chunks(connection, document.id, payload.version, space.id)
            lacking = spaces.Slice(context.require_tenant_id(), document.id, payload.version, missing)
            enqueue_slices(transaction, space, [lacking])
            is_complete = is_complete and not (space.is_active and missing)
        if is_complete:  # else the last of its slices shows it
            swap_if_complete(transaction, document.id, payload.version)
        enqueue_count(transaction)

    return Done({"chunks": len(rows)}, apply)


def _newest(context: TaskContext, source: _Source) -> _Source | None:
    """Return the source with the document as it is now, or None where it has other bytes than were read, or is gone."""
    with context.read() as transaction:
        document = documents.get(transaction.connection, source.document.id)
    # After the row: whoever names a file has written it before.
    if document is None or document.file_path != source.document.file_path or not source.has_same_bytes():
        return None
    return replace(source, document=document)


def _hold(transaction: Transaction, source: _Source) -> None:
    """Lock the document, unless it got other bytes: nobody enqueued those while this ingest was live.

    A file that is named again with the same bytes is no other: somebody may name it more often than it can be read.
    """
    document = source.document
    held = documents.lock_upload(transaction.connection, document.id)
    if held == (document.file_path, document.uploaded_at):
        return
    if held is None or held[0] != document.file_path or not source.has_same_bytes():
        # An outcome cannot be changed any more, so this costs an attempt; only what comes within the last moments does.
        raise RetryableError("the document got another file while this one was read", retry_after=timedelta(seconds=0))


def _blocks_of(parsed: ParsedDocument) -> list[Any]:
    """Return the blocks as JSON: [kind, page, section, start, end], offsets into the version's text."""
    return [
        [placed.block.kind, placed.block.page, placed.block.section, placed.start, placed.end]
        for placed in parsed.placed_blocks
    ]


def _parsed_of(document: documents.Document, text: str, blocks: list[Any]) -> ParsedDocument:
    return ParsedDocument(
        title=document.title,
        media_type=document.mime_type or "text/plain",
        blocks=tuple(Block(text[start:end], kind, page, section) for kind, page, section, start, end in blocks),
    )


def _rows_of(
    document: documents.Document, parsed: ParsedDocument, resources: Resources, space: spaces.Space
) -> list[documents.ChunkRow]:
    """Return the chunks of a document, none longer than what the model of a space reads."""
    model = resources.get(Models).of(space)
    sections = (block.section for block in parsed.blocks)
    template = resources.get(HeaderTemplate)
    title = document.title or PurePosixPath(document.name).stem
    headers = Headers(template, title, sections, model.tokenizer, model.max_tokens)
    chunks = split(
        parsed,
        max_tokens=document.chunk_size,
        overlap_tokens=document.chunk_overlap,
        model_limit=model.max_tokens - headers.reserved,
        count_model_tokens=model.tokenizer,
    )
    return [_row_of(chunk, headers.of(chunk.section)) for chunk in chunks]


def _row_of(chunk: Chunk, header: str) -> documents.ChunkRow:
    return documents.ChunkRow(
        chunk.index, header, chunk.text, chunk.token_count, chunk.page, chunk.section, chunk.start, chunk.end
    )
