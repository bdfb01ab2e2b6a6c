"""Endpoints of OpenAI's protocol: the one place that loads its client, and says what it means that one does not give.

Its library would retry by itself, and follow redirects; neither is wanted: whoever calls waits by what the endpoint
asks for, and asks no other address.
"""

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from core.backoff import Backoff
from core.errors import PermanentError, RateLimitedError, RetryableError, SettingsError
from core.retry_after import retry_after

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

_REFUSED: Final = (400, 413, 422)
_BUSY: Final = (429, 503)
_AWAY: Final = (502, 504)
# A wrong key, or one that is not paid for, does not become right by asking often; it does when somebody mends it.
_LOCKED: Final = (401, 402, 403)
_LOCKED_PAUSE: Final = timedelta(minutes=5)
_LEAST_WAIT, _MOST_WAIT = timedelta(seconds=1), timedelta(hours=1)
_WHILE_AWAY: Final = Backoff(base=2.0, factor=2.0, maximum=300.0)
# So much of a text in a row that it is not there by chance.
_QUOTED: Final = 20


class TextsRefusedError(Exception):
    """The endpoint does not take these texts, together or one of them."""


class Endpoint:
    """One endpoint: its client, and its patience. Safe to use from many threads.

    `limit_key` is what the tasks share that go to it: if it refuses for now, all of them wait. `check` names the
    settings that are wrong where it knows nothing of what it is asked for.
    """

    def __init__(
        self, url: str | None, api_key: SecretStr | None, seconds: float, *, limit_key: str, check: str
    ) -> None:
        self._key = api_key.get_secret_value() if api_key else None
        self._limit_key = limit_key
        self._check = check
        self._times_away, self._away_until = 0, 0.0
        self._lock = threading.Lock()
        self.client = _client(url, self._key, seconds)

    def answered(self) -> None:
        """Note that it is there."""
        self._times_away = 0

    def close(self) -> None:
        """Close its connections."""
        self.client.close()

    def silent(self, error: Exception) -> RetryableError:
        """Return what it means that there is no answer: nobody is there, or it was lost, maybe for these texts."""
        said = f"the endpoint does not answer: {type(error).__name__}"
        if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
            return RateLimitedError(self._limit_key, f"{said}, no connection", retry_after=self._while_away())
        return RetryableError(said)

    def refusal(self, error: "APIStatusError", texts: Sequence[str]) -> Exception:
        """Return what an answer to texts means that is no success; a TextsRefusedError where it is about them."""
        status = error.status_code
        wait = retry_after(error.response.headers.get("retry-after"), least=_LEAST_WAIT, most=_MOST_WAIT)
        told = f"the endpoint answered {status}: {self._told(error, texts)}"
        if status in _BUSY:
            return RateLimitedError(self._limit_key, told, retry_after=wait)
        if status in _AWAY:
            return RateLimitedError(self._limit_key, told, retry_after=wait or self._while_away())
        if status in _LOCKED:
            return RateLimitedError(self._limit_key, f"{told}: mend its key", retry_after=_LOCKED_PAUSE)
        if status in _REFUSED:
            return TextsRefusedError(told)
        if status >= 500 or status in (408, 409, 425):
            return RetryableError(told, retry_after=wait)
        return PermanentError(f"{told}; check {self._check}")

    def _while_away(self) -> timedelta:
        """Return for how long it is left alone: longer each time, and once for all who find that out together."""
        with self._lock:
            now = time.monotonic()
            if now >= self._away_until:
                self._times_away += 1
                self._away_until = now + max(_WHILE_AWAY.delay(self._times_away), _LEAST_WAIT.total_seconds())
            return timedelta(seconds=self._away_until - now)

    def _told(self, error: "APIStatusError", texts: Sequence[str]) -> str:
        """Return what the endpoint says of itself, in a line that is not long, without what is nobody's business."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        told = _in_a_line(str(message or error.message or "").replace("\\n", " "))
        if self._key:
            told = told.replace(self._key, "…")
        asked = [_in_a_line(text) for text in texts]
        pieces = [told[at : at + _QUOTED] for at in range(max(len(told) - _QUOTED + 1, 0))]
        if any(text in told if len(text) < _QUOTED else any(piece in text for piece in pieces) for text in asked):
            return "(with words of the text)"
        return told[:300]


def limit_key_of_model(name: str) -> str:
    """Return what tasks for an endpoint's model share: who refuses one of them refuses all."""
    return f"model:{name}"[:200]


def _client(url: str | None, key: str | None, seconds: float) -> "OpenAI":
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError as error:
        raise SettingsError("an endpoint is asked by a client that is not installed: `greenroom[openai]`") from error
    for name in ("httpx", "httpx2", "openai"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at info they write each request
    return OpenAI(
        base_url=url,
        api_key=key or "none",
        max_retries=0,
        timeout=seconds,
        http_client=DefaultHttpxClient(follow_redirects=False, timeout=seconds),
    )


def _in_a_line(text: str) -> str:
    return " ".join(text.split())
