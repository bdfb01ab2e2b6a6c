"""Who embeds for which space: models that a process knows by its settings, each loaded when it is first asked for."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from core.settings import Settings
from db.spaces import Space
from pipelines.documents.endpoint import EndpointEmbedder, EndpointModel, endpoint_model, is_endpoint
from pipelines.documents.errors import ModelFilesError, UnknownModelError
from pipelines.documents.models import ModelFiles, find_model
from pipelines.documents.vectors import TextEmbedder
from pipelines.endpoints import limit_key_of_model

# A worker that knows the model may take the task by then.
_ELSEWHERE = timedelta(seconds=30)
Model = ModelFiles | EndpointModel
"""What a space can be of: files that stand here, or a name that an endpoint knows."""


class Models:
    """The models that a process knows: the first one, those besides, and an endpoint's if its name is among them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[str, Model] = {}

    @property
    def names(self) -> Sequence[str]:
        """What the settings call them: names, or folders of files."""
        return list(dict.fromkeys((self._settings.embedding.model, *self._settings.embedding.other_models)))

    def all(self) -> Sequence[Model]:
        """Return all, the first model first. Raises ModelFilesError, and SettingsError for half an endpoint."""
        return [self._model(name) for name in self.names]

    def named(self, name: str) -> Model | None:
        """Return a model by its name, or by what the settings call it; raises ModelFilesError where it is damaged."""
        if name in self.names:
            return self._model(name)
        for called in self.names:
            with suppress(ModelFilesError):
                if (model := self._model(called)).name == name:
                    return model
        return None

    def of(self, space: Space) -> Model:
        """Return a space's model; raises UnknownModelError where this process does not know it, or others of its name.

        A model that cannot be found is in nobody's way but its own.
        """
        told: list[str] = []
        for name in self.names:
            try:
                model = self._model(name)
            except ModelFilesError as error:
                told.append(f"{name}: {error}")
                continue
            if (model.name, model.dimensions, model.revision) == (space.model, space.dimensions, space.revision):
                return model
            told.append(f"{model.name} of {model.dimensions} dimensions, revision {model.revision}")
        raise UnknownModelError(
            f"The space is of model {space.model} of {space.dimensions} dimensions, revision {space.revision}; this "
            f"process knows {'; '.join(told)}. Set GREENROOM_EMBEDDING_MODEL or GREENROOM_EMBEDDING_OTHER_MODELS.",
            retry_after=_ELSEWHERE,
        )

    def _model(self, name: str) -> Model:
        with self._lock:
            if name not in self._known:
                self._known[name] = self._find(name)
            return self._known[name]

    def _find(self, name: str) -> Model:
        endpoint = self._settings.endpoint
        return endpoint_model(endpoint) if endpoint.url is not None and name == endpoint.model else find_model(name)


class Embedders:
    """The embedders of a process, by the space that they serve."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._loaded: dict[tuple[str, str, int], TextEmbedder] = {}
        self._lock = threading.Lock()

    def of(self, space: Space) -> TextEmbedder:
        """Return the embedder of a space's model; raises UnknownModelError where this process does not know it."""
        model = self._models.of(space)
        with self._lock:
            key = (model.name, model.revision, model.dimensions)
            if key not in self._loaded:
                self._loaded[key] = self._load(model)
            return self._loaded[key]

    def close(self) -> None:
        """Close all."""
        for embedder in self._loaded.values():
            embedder.close()

    def _load(self, model: Model) -> TextEmbedder:
        if isinstance(model, EndpointModel):
            return EndpointEmbedder(model, self._settings.endpoint, limit_key=limit_key_of_model(model.name))
        from pipelines.documents.embedding import Embedder  # torch, for those alone who compute

        settings = self._settings.embedding
        return Embedder.of(model, dtype=settings.dtype, batch_tokens=settings.batch_tokens, threads=settings.threads)


def limit_key_of(space: Space) -> str | None:
    """Return what tasks for an endpoint's space share: who refuses one of them refuses all. None for a local model."""
    return limit_key_of_model(space.model) if is_endpoint(space.revision) else None
