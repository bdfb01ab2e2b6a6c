"""Texts to vectors by an endpoint that speaks OpenAI's protocol: the one place that loads its client.

What it answers is believed only after a look: as many vectors as texts, of the right length, finite. What it refuses as
too much is halved, what it refuses as wrong is narrowed down to the text at fault; while it is away, or wants to be
left alone, its tasks wait. Its library would retry by itself, and follow redirects; neither is wanted: whoever calls
waits by what the endpoint asks for, and asks no other address.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from core.backoff import Backoff
from core.errors import PermanentError, RateLimitedError, RetryableError, SettingsError
from core.groups import EndpointSettings
from core.retry_after import retry_after
from pipelines.documents.tokens import Cl100k
from pipelines.documents.vectors import Embedded, Vectors

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

_REVISION: Final = "endpoint"
_REFUSED: Final = (400, 422)
_TOO_LARGE: Final = 413
_BUSY: Final = (429, 503)
_AWAY: Final = (502, 504)
# A wrong key, or one that is not paid for, does not become right by asking often; it does when somebody mends it.
_LOCKED: Final = (401, 402, 403)
_LOCKED_PAUSE: Final = timedelta(minutes=5)
_LEAST_WAIT, _MOST_WAIT = timedelta(seconds=1), timedelta(hours=1)
_WHILE_AWAY: Final = Backoff(base=2.0, factor=2.0, maximum=300.0)
# Texts that were refused one by one, and none taken: it may be the model's name that it refuses, or an option.
_ENOUGH_REFUSED: Final = 4
# So much of a text in a row that it is not there by chance.
_QUOTED: Final = 20


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
        self._limit_key = limit_key
        self._times_away, self._away_until = 0, 0.0
        self._lock = threading.Lock()
        self._client = _client(settings)

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
            except _TextsRefusedError as error:
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
        self._client.close()

    def _cut(self, text: str) -> str:
        return self.model.tokenizer.cut(text, self.model.max_tokens)

    def _ask(self, texts: list[str]) -> tuple[Vectors, int]:
        import openai

        wanted: dict[str, Any] = {"dimensions": self.model.dimensions} if self._settings.asks_dimensions else {}
        try:
            answer = self._client.embeddings.create(
                model=self.model.name, input=texts, encoding_format="float", **wanted
            )
            rows = [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
            used = int(getattr(answer.usage, "total_tokens", 0))  # some endpoints leave it out
            checked = self._checked(rows, len(texts))
            self._times_away = 0
        except openai.APIStatusError as error:
            raise self._translated(error, texts) from error
        except openai.OpenAIError as error:
            raise self._silent(error) from error
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

    def _silent(self, error: Exception) -> RetryableError:
        """Return what it means that there is no answer: nobody is there, or it was lost, maybe for these texts."""
        said = f"the endpoint does not answer: {type(error).__name__}"
        if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
            return RateLimitedError(self._limit_key, f"{said}, no connection", retry_after=self._while_away())
        return RetryableError(said)

    def _while_away(self) -> timedelta:
        """Return for how long it is left alone: longer each time, and once for all who find that out together."""
        with self._lock:
            now = time.monotonic()
            if now >= self._away_until:
                self._times_away += 1
                self._away_until = now + max(_WHILE_AWAY.delay(self._times_away), _LEAST_WAIT.total_seconds())
            return timedelta(seconds=self._away_until - now)

    def _translated(self, error: "APIStatusError", texts: Sequence[str]) -> Exception:
        """Return what an answer that is no success means."""
        status = error.status_code
        wait = retry_after(error.response.headers.get("retry-after"), least=_LEAST_WAIT, most=_MOST_WAIT)
        told = f"the endpoint answered {status}: {self._told(error, texts)}"
        if status in _BUSY:
            return RateLimitedError(self._limit_key, told, retry_after=wait)
        if status in _AWAY:
            return RateLimitedError(self._limit_key, told, retry_after=wait or self._while_away())
        if status in _LOCKED:
            return RateLimitedError(self._limit_key, f"{told}: mend its key", retry_after=_LOCKED_PAUSE)
        if status == _TOO_LARGE or status in _REFUSED:
            return _TextsRefusedError(told)
        if status >= 500 or status in (408, 409, 425):
            return RetryableError(told, retry_after=wait)
        return PermanentError(f"{told}; check GREENROOM_ENDPOINT_URL and GREENROOM_ENDPOINT_MODEL")

    def _told(self, error: "APIStatusError", texts: Sequence[str]) -> str:
        """Return what the endpoint says of itself, in a line that is not long, without what is nobody's business."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        told = _in_a_line(str(message or error.message or "").replace("\\n", " "))
        if key := self._settings.api_key and self._settings.api_key.get_secret_value():
            told = told.replace(key, "…")
        asked = [_in_a_line(text) for text in texts]
        pieces = [told[at : at + _QUOTED] for at in range(max(len(told) - _QUOTED + 1, 0))]
        if any(text in told if len(text) < _QUOTED else any(piece in text for piece in pieces) for text in asked):
            return "(with words of the text)"
        return told[:300]


class _TextsRefusedError(Exception):
    """The endpoint does not take these texts, together or one of them."""


def endpoint_model(settings: EndpointSettings) -> EndpointModel:
    """Return the model that the settings describe; raises SettingsError where they do not."""
    if settings.url is None or settings.model is None or settings.dimensions is None:
        raise SettingsError("an endpoint needs its url, the name of its model and the dimensions of its vectors")
    return EndpointModel(settings.model, settings.max_tokens, settings.dimensions, settings.revision)


def is_endpoint(revision: str) -> bool:
    """Tell by a space's revision whether its model stands behind an endpoint."""
    return revision.partition(":")[0] == _REVISION


def _client(settings: EndpointSettings) -> "OpenAI":
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError as error:
        raise SettingsError("an endpoint is asked by a client that is not installed: `greenroom[openai]`") from error
    for name in ("httpx", "httpx2", "openai"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at info they write each request
    key = settings.api_key.get_secret_value() if settings.api_key else "none"
    return OpenAI(
        base_url=settings.url,
        api_key=key,
        max_retries=0,
        timeout=settings.seconds,
        http_client=DefaultHttpxClient(follow_redirects=False, timeout=settings.seconds),
    )


def _in_a_line(text: str) -> str:
    return " ".join(text.split())
