"""What costs seconds to make, once a session: the parser's process and the packaged model."""

from typing import Any, TypeVar

from core.settings import Settings, load_settings
from pipelines.documents.embedders import Embedders, Model, Models
from pipelines.documents.embedding import Embedder
from pipelines.documents.models import find_model
from pipelines.documents.parsing import ParserProcess
from pipelines.documents.vectors import TextEmbedder
from pipelines.registry import provide_resources
from pipelines.resources import Resources

R = TypeVar("R")


class Shared:
    """A parser and an embedder that outlive whoever uses them."""

    def __init__(self) -> None:
        self.parser = ParserProcess()
        self.packaged: Embedder | None = None

    def embedder(self) -> Embedder:
        """Return the packaged model's embedder, loaded at the first call as default settings say."""
        if self.packaged is None:
            told = load_settings(_env_file=None).embedding
            self.packaged = Embedder.load(dtype=told.dtype, batch_tokens=told.batch_tokens, threads=told.threads)
        return self.packaged

    def resources(self, settings: Settings) -> Resources:
        """Return resources by settings, of which those for the parser and for the packaged model are the default."""
        return provide_resources(_Sharing(self, settings), settings)

    def close(self) -> None:
        """End both."""
        self.parser.close()
        if self.packaged is not None:
            self.packaged.close()


class _Sharing(Resources):
    def __init__(self, shared: Shared, settings: Settings) -> None:
        super().__init__()
        self._embedders = _SharingEmbedders(shared, settings)
        self._shared: dict[type[Any], Any] = {ParserProcess: shared.parser, Embedders: self._embedders}

    def get(self, kind: type[R]) -> R:
        found: R = self._shared[kind] if kind in self._shared else super().get(kind)
        return found

    def close(self) -> None:
        self._embedders.close()
        super().close()


class _SharingEmbedders(Embedders):
    def __init__(self, shared: Shared, settings: Settings) -> None:
        super().__init__(Models(settings), settings)
        self._shared = shared

    def close(self) -> None:
        self._loaded = {key: own for key, own in self._loaded.items() if own is not self._shared.packaged}
        super().close()

    def _load(self, model: Model) -> TextEmbedder:
        return self._shared.embedder() if model == find_model() else super()._load(model)
