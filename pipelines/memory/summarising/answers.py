"""What a chat model answers, read within bounds and made sense of, or the reason why it is not taken."""

import re
import time
from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import RetryableError

Reason = Literal["refused", "nonsense", "too_long", "foreign_facts", "off_topic"]
"""Why a summary is not taken.

refused: the endpoint does not take the sources, or the model will not answer; nonsense: no such JSON; too_long: not
shorter than its sources, or more than the space's model reads; foreign_facts: it names what no source holds; off_topic:
it is about something else.
"""

MOST_BYTES: Final = 1 << 20
# Some models put their JSON between fences, whatever they are told.
_FENCED: Final = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)


class RejectedError(Exception):
    """An answer that is not taken. What it cost is known where the endpoint said so."""

    def __init__(self, reason: Reason, usage: "Usage | None" = None) -> None:
        self.reason = reason
        self.usage = usage or Usage()
        super().__init__(reason)


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Usage(_Loose):
    """Tokens, as the endpoint counted them; some leave it out."""

    prompt_tokens: int = Field(0, ge=0, le=10**9)
    completion_tokens: int = Field(0, ge=0, le=10**9)


class _Message(_Loose):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Loose):
    message: _Message
    finish_reason: str | None = None


class _Completion(_Loose):
    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | None = None


class Answer(BaseModel):
    """What the model is asked for, and nothing besides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str = Field(min_length=1)


def schema() -> dict[str, Any]:
    """Return the JSON schema of an answer."""
    return Answer.model_json_schema()


def read(pieces: Iterator[bytes], *, seconds: float) -> bytes:
    """Return a body whole; raises RejectedError if it has no end, RetryableError if it breaks off or takes too long."""
    deadline = time.monotonic() + seconds
    body = bytearray()
    while piece := _next(pieces):
        body += piece
        if len(body) > MOST_BYTES:
            raise RejectedError("too_long")
        if time.monotonic() > deadline:
            raise RetryableError(f"the endpoint's answer took longer than {seconds:g} s")
    return bytes(body)


def _next(pieces: Iterator[bytes]) -> bytes:
    try:
        return next(pieces, b"")
    except Exception as error:  # of the library that the client is made with, which is its own business
        raise RetryableError(f"the endpoint's answer broke off: {type(error).__name__}") from error


def parse(body: bytes) -> tuple[str, Usage]:
    """Return the summary in an endpoint's answer, and what it cost; raises RejectedError."""
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError as error:
        raise RejectedError("nonsense") from error
    choice, usage = completion.choices[0], completion.usage or Usage()
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise RejectedError("refused", usage)
    if choice.finish_reason == "length":
        raise RejectedError("too_long", usage)
    text = choice.message.content or ""
    fenced = _FENCED.match(text)
    try:
        answer = Answer.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        raise RejectedError("nonsense", usage) from error
    summary = answer.summary.replace("\0", " ").strip()
    if not summary:
        raise RejectedError("nonsense", usage)
    return summary, usage
