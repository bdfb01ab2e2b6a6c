"""The group of settings of a persona's memory: who condenses it, and within which bounds."""

from typing import Literal

from pydantic import Field, SecretStr, model_validator

from core.groups import GroupingSettings


class MemorySettings(GroupingSettings):
    """How a persona's memory is condensed: by sentences of its sources, or by a chat model (extra: openai)."""

    summariser: Literal["extractive", "chat"] = Field(
        "extractive", description="extractive: sentences of the sources, here; chat: a model behind url."
    )
    share: float = Field(0.45, ge=0.05, le=0.9, description="Of the sources' tokens, so much a summary has at most.")
    url: str | None = Field(None, description="The chat model's base address: https://api.example.org/v1.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    model: str | None = Field(None, description="The chat model's name at that address.")
    answers: Literal["json_schema", "json_object", "text"] = Field(
        "json_schema", description="How the endpoint is asked for JSON; text: by words alone, where it knows no other."
    )
    length_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="How the endpoint is told where to stop; some hosted models know only the second."
    )
    seconds: float = Field(120.0, gt=0, le=3600, description="How long a whole answer may take.")
    prompt_price: float = Field(0.0, ge=0, description="USD for a million tokens that it reads.")
    completion_price: float = Field(0.0, ge=0, description="USD for a million tokens that it writes.")

    @model_validator(mode="after")
    def _names_its_model(self) -> "MemorySettings":
        if self.summariser == "chat" and not (self.url and self.model):
            raise ValueError("summariser chat needs url and model")
        return self
