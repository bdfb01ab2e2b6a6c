"""Texts to vectors by a local sentence-transformers model: with `packing.py` and `attention.py` all that loads torch.

Texts of like length are computed together (`batching.py`), batches side by side, each by one thread. The model computes
in bf16 where the processor has instructions for it, pooling and normalisation in fp32. Figures and choice:
docs/decisions/0003-embedding-settings.md.
"""

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from pipelines.documents.batching import batches
from pipelines.documents.errors import VectorsError
from pipelines.documents.models import DEFAULT_MODEL, ModelFiles, find_model
from pipelines.documents.vectors import Embedded, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Dtype = Literal["auto", "fp32", "bf16"]
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    # The tokenizer's own threads would fight with the model's, and warn after a fork.
    "TOKENIZERS_PARALLELISM": "false",
}
_BF16_FLAGS: Final = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES: Final = 256 << 20
# Matrix units work in tiles of 16 rows: attention over a width between two tiles is a third slower.
_TILE: Final = 16


class Embedder:
    """A loaded model. Safe to use from many threads: its own pool bounds the work. `close` it at the end."""

    def __init__(
        self, files: ModelFiles, model: "SentenceTransformer", dtype: Dtype, *, batch_tokens: int, threads: int
    ) -> None:
        import torch

        self._files = files
        self._model = model
        self._tokenizer = files.tokenizer
        self._batch_tokens = batch_tokens
        # torch would share each product among its threads, and they wait for each other at every one.
        self._pool = ThreadPoolExecutor(threads, "embedder", initializer=torch.set_num_threads, initargs=(1,))
        self._padding = int(getattr(model.tokenizer, "pad_token_id", None) or 0)
        self.dtype = dtype
        """What the model computes in: fp32 or bf16, never auto."""

    @classmethod
    def load(
        cls, model: str = DEFAULT_MODEL, *, dtype: Dtype = "auto", batch_tokens: int = 2048, threads: int = 0
    ) -> "Embedder":
        """Load a packaged model by name, or any by its folder. Raises ModelFilesError.

        `batch_tokens` counts padding. `threads` batches are computed at a time, 0 means one for each core that this
        process may use.
        """
        return cls.of(find_model(model), dtype=dtype, batch_tokens=batch_tokens, threads=threads)

    @classmethod
    def of(cls, files: ModelFiles, *, dtype: Dtype = "auto", batch_tokens: int = 2048, threads: int = 0) -> "Embedder":
        """Load a model's files, as `load` does."""
        files.revision  # noqa: B018 - weights with a wrong hash are not loaded
        prepare_environment()
        keep_memory()
        import torch
        from sentence_transformers import SentenceTransformer

        from pipelines.documents.attention import add_masks
        from pipelines.documents.packing import pack

        chosen = _computes_in(dtype)
        loaded = SentenceTransformer(str(files.folder), device="cpu", local_files_only=True)
        loaded.eval()
        loaded[0].to(torch.bfloat16 if chosen == "bf16" else torch.float32)
        model_itself = loaded[0].get_submodule("model")
        pack(model_itself)
        add_masks(model_itself)
        threads = threads or len(os.sched_getaffinity(0))
        return cls(files, loaded, chosen, batch_tokens=batch_tokens, threads=threads)

    def close(self) -> None:
        """End the threads; embeds nothing after that."""
        self._pool.shutdown()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._files.name

    @property
    def revision(self) -> str:
        """What tells the weights from others under the same name."""
        return self._files.revision

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._files.dimensions

    @property
    def max_tokens(self) -> int:
        """Tokens that are read of a text, special tokens included."""
        return self._files.max_tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the L2-normalised vectors, in the order of the texts. Raises VectorsError."""
        vectors: Vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        encoded = [self._cut(found.ids) for found in self._tokenizer.encode_batch_fast(texts)]
        found = list(batches([self._width(len(ids)) for ids in encoded], self._batch_tokens))
        rows = ([encoded[index] for index in batch] for batch in found)
        for batch, part in zip(found, self._pool.map(self._forward, rows), strict=True):
            vectors[batch] = part
        _check(vectors)
        return vectors

    def compute(self, texts: Sequence[str]) -> Embedded:
        """Return the vectors as every embedder does: none is refused, and they cost nothing."""
        return Embedded(self.embed(texts))

    def _cut(self, ids: list[int]) -> list[int]:
        # Chunks fit; a query may not, and is cut as the model's own code would: the end mark stays.
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def _width(self, tokens: int) -> int:
        """Return what a text of so many tokens is padded to."""
        return max(tokens, min(-(-tokens // _TILE) * _TILE, self.max_tokens))

    def _forward(self, rows: list[list[int]]) -> Vectors:
        import torch

        width = self._width(max(map(len, rows)))
        ids = torch.full((len(rows), width), self._padding, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[place, : len(row)] = 1
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        with torch.inference_mode():
            for index, module in enumerate(self._model):
                features = module(features)
                if index == 0:
                    # Sums over 256 tokens in bf16 would lose what the matrix products kept.
                    features["token_embeddings"] = features["token_embeddings"].float()
            found = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)
        vectors: Vectors = found.numpy()
        return vectors


def prepare_environment() -> None:
    """Keep the model's libraries off the network. Call before any of them is imported; `Embedder.load` does."""
    os.environ.update(_OFFLINE)


def keep_memory() -> bool:
    """Have the C library keep the memory of one batch for the next; return whether it can.

    It would give it back and have each page of it zeroed anew, a tenth of the time. Where it is not glibc nothing is
    done.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    # Older ones take no more than 32 MB for the first; without it the second only stops glibc's own choice.
    if not any(library.mallopt(_M_MMAP_THRESHOLD, kept) == 1 for kept in (_KEPT_BYTES, 32 << 20)):
        return False
    return bool(library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES) == 1)


def has_bf16() -> bool:
    """Tell whether the processor multiplies matrices in bf16; without, it would be emulated and slow."""
    try:
        with open("/proc/cpuinfo") as described:  # noqa: PTH123 - a file of the kernel
            flags = next((line for line in described if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _computes_in(dtype: Dtype) -> Literal["fp32", "bf16"]:
    if dtype == "auto":
        return "bf16" if has_bf16() else "fp32"
    return dtype


def _check(vectors: Vectors) -> None:
    good = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    if not good.all():
        raise VectorsError(f"The model's vector for text {int(np.flatnonzero(~good)[0])} is not finite or all zero.")
