"""Another splitter in the place of ours, for a run: LangChain's recursive one, from an environment that has it."""

import sys
from bisect import bisect_right
from pathlib import Path
from typing import Any

from pipelines.documents import ingest, tokens
from pipelines.documents.parsing.types import ParsedDocument
from pipelines.documents.splitting import Chunk


def split_by_langchain(packages: Path) -> None:
    """Have documents split by RecursiveCharacterTextSplitter from now on; `packages` is a site-packages that has it."""
    sys.path.append(str(packages))
    vars(ingest)["split"] = _recursive  # for this process, which measures


def _recursive(
    document: ParsedDocument, *, max_tokens: int, overlap_tokens: int, model_limit: int, count_model_tokens: Any
) -> list[Chunk]:
    """Split by the same limits: the larger of both counts is a chunk's length; its section is its first block's."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # type: ignore[import-not-found]

    def length(text: str) -> int:
        return max(-(-tokens.count(text) * model_limit // max_tokens), len(count_model_tokens.encode(text).ids))

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=model_limit, chunk_overlap=overlap_tokens, length_function=length
    )
    placed = document.placed_blocks
    starts = [block.start for block in placed]
    chunks: list[Chunk] = []
    start = -1
    for text in splitter.split_text(document.text):
        start = max(
            document.text.find(text, start + 1), 0
        )  # its own offsets count characters of the overlap, not tokens
        block = placed[max(bisect_right(starts, start) - 1, 0)].block
        counts = tokens.count(text), len(count_model_tokens.encode(text).ids)
        chunks.append(Chunk(len(chunks), text, *counts, block.page, block.section, start, start + len(text)))
    return chunks
