"""Who summarises for a space: by the settings, with the model that embeds for it."""

import threading
from typing import Final

from core.memory_group import MemorySettings
from db.spaces import Space
from pipelines.documents.embedders import Embedders, Models
from pipelines.endpoints import limit_key_of_model
from pipelines.memory.summarising.base import Summariser
from pipelines.memory.summarising.chat import Chat
from pipelines.memory.summarising.extractive import Extractive

# Tokens that are left for the header that sources have in common, and that is embedded with their summary.
_HEADER: Final = 24


class Summarisers:
    """The summarisers of a process, by the space whose vectors they go by; each made when it is first asked for."""

    def __init__(self, models: Models, embedders: Embedders, settings: MemorySettings) -> None:
        self._models = models
        self._embedders = embedders
        self._settings = settings
        self._made: dict[Space, Summariser] = {}
        self._chats: list[Chat] = []
        self._lock = threading.Lock()

    def of(self, space: Space) -> Summariser:
        """Return the summariser of a space; raises UnknownModelError where this process does not know its model.

        Loads the model: for embedding workers. SettingsError where a chat model is wanted and no client is installed.
        """
        with self._lock:
            if space not in self._made:
                self._made[space] = self._make(space)
            return self._made[space]

    def close(self) -> None:
        """Close connections."""
        for chat in self._chats:
            chat.close()

    def _make(self, space: Space) -> Summariser:
        model = self._models.of(space)

        def fits(text: str) -> bool:
            return len(model.tokenizer.encode(text).ids) <= model.max_tokens - _HEADER

        extractive = Extractive(self._embedders.of(space), share=self._settings.share, fits=fits)
        if self._settings.summariser == "extractive":
            return extractive
        chat = Chat(self._settings, extractive, fits)
        self._chats.append(chat)
        return chat


def limit_key_of_memory(settings: MemorySettings) -> str | None:
    """Return what tasks that condense share: the chat model that may refuse all of them. None without one."""
    return limit_key_of_model(settings.model) if settings.summariser == "chat" and settings.model else None
