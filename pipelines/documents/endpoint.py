"""Texts to vectors by an endpoint that speaks OpenAI's protocol.

What it answers is believed only after a look: as many vectors as texts, of the right length, finite. What it refuses as
too much is halved, what it refuses as wrong is narrowed down to the text at fault; while it is away, or wants to be
left alone, its tasks wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np

from core.errors import PermanentError, RetryableError, SettingsError
from core.groups import EndpointSettings
from pipelines.documents.tokens import Cl100k
from pipelines.documents.vectors import Embedded, Vectors
from pipelines.endpoints import Endpoint, TextsRefusedError

_REVISION: Final = "endpoint"
_CHECK: Final = "GREENROOM_ENDPOINT_URL and GREENROOM_ENDPOINT_MODEL"
# Texts that were refused one by one, and none taken: it may be the model's name that it refuses, or an option.
_ENOUGH_REFUSED: Final = 4


@dataclass(frozen=True)
class EndpointModel:
    """A model behind an endpoint: what it is called, what it reads, what it yields."""

    name: str
    max_tokens: int
    dimensions: int
    told_by: str | None = None

    @property
    def revision(self) -> str:
        """What its space is told by: nobody here has seen its weights, so it is what the settings say."""
        return _REVISION if self.told_by is None else f"{_REVISION}:{self.told_by}"

    @cached_property
    def tokenizer(self) -> Cl100k:
        """What its tokens are counted by."""
        return Cl100k()


class EndpointEmbedder:
    """Asks one endpoint. Safe to use from many threads.

    `limit_key` is what the tasks share that go to it: if it refuses for now, all of them wait.
    """

    def __init__(self, model: EndpointModel, settings: EndpointSettings, *, limit_key: str) -> None:
        self.model = model
        self._settings = settings
        self._endpoint = Endpoint(settings.url, settings.api_key, settings.seconds, limit_key=limit_key, check=_CHECK)

    def compute(self, texts: Sequence[str]) -> Embedded:
        """Return the L2-normalised vectors of texts, and why there is none of those that the endpoint did not embed.

        A PermanentError for a text that it refuses, a RateLimitedError for all that it did not come to while it refuses
        everything, a RetryableError where it does not answer or answers nonsense. What it gave before is kept.
        """
        vectors: Vectors = np.zeros((len(texts), self.model.dimensions), dtype=np.float32)
        failures: dict[int, Exception] = {}
        tokens = taken = 0
        batch = self._settings.batch
        todo = [range(at, min(at + batch, len(texts))) for at in range(0, len(texts), batch)][::-1]
        while todo:
            places = todo.pop()
            try:
                found, used = self._ask([self._cut(texts[place]) for place in places])
            except TextsRefusedError as error:
                if len(places) == 1:
                    failures[places[0]] = PermanentError(str(error))
                    if not taken and len(failures) >= _ENOUGH_REFUSED:
                        rest = RetryableError(f"{len(failures)} texts were refused one by one, and none taken: {error}")
                        failures |= dict.fromkeys(chain(*todo), rest)
                        break
                else:
                    middle = len(places) // 2
                    todo += [places[middle:], places[:middle]]
                continue
            except (RetryableError, PermanentError) as error:
                failures |= dict.fromkeys(chain(places, *todo), error)
                break
            vectors[places.start : places.stop] = found
            taken += len(places)
            tokens += used
        return Embedded(vectors, failures, tokens, tokens * self._settings.price / 1e6)

    def close(self) -> None:
        """Close its connections."""
        self._endpoint.close()

    def _cut(self, text: str) -> str:
        return self.model.tokenizer.cut(text, self.model.max_tokens)

    def _ask(self, texts: list[str]) -> tuple[Vectors, int]:
        import openai

        wanted: dict[str, Any] = {"dimensions": self.model.dimensions} if self._settings.asks_dimensions else {}
        try:
            answer = self._endpoint.client.embeddings.create(
                model=self.model.name, input=texts, encoding_format="float", **wanted
            )
            rows = [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
            used = int(getattr(answer.usage, "total_tokens", 0))  # some endpoints leave it out
            checked = self._checked(rows, len(texts))
            self._endpoint.answered()
        except openai.APIStatusError as error:
            raise self._endpoint.refusal(error, texts) from error
        except openai.OpenAIError as error:
            raise self._endpoint.silent(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise RetryableError("the endpoint's answer is none of this protocol") from error
        return checked, used

    def _checked(self, rows: list[list[float]], count: int) -> Vectors:
        if len(rows) != count:
            raise RetryableError(f"the endpoint answered with {len(rows)} vectors for {count} texts")
        lengths = {len(row) for row in rows}
        if lengths != {self.model.dimensions}:
            raise RetryableError(
                f"the endpoint's vectors have {sorted(lengths)} dimensions instead of {self.model.dimensions}"
            )
        vectors: Vectors = np.asarray(rows, dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise RetryableError("the endpoint's vectors are not finite, or all zero")
        normalised: Vectors = vectors / norms
        return normalised


def endpoint_model(settings: EndpointSettings) -> EndpointModel:
    """Return the model that the settings describe; raises SettingsError where they do not."""
    if settings.url is None or settings.model is None or settings.dimensions is None:
        raise SettingsError("an endpoint needs its url, the name of its model and the dimensions of its vectors")
    return EndpointModel(settings.model, settings.max_tokens, settings.dimensions, settings.revision)


def is_endpoint(revision: str) -> bool:
    """Tell by a space's revision whether its model stands behind an endpoint."""
    return revision.partition(":")[0] == _REVISION
