"""Payloads of the memory pipeline; all that a producer has to import."""

from typing import ClassVar
from uuid import UUID

from pipelines.payload import Payload


class CurateMemories(Payload):
    """Curate the memory of every persona that has chunks which were not considered yet, of all tenants."""

    task_type: ClassVar[str] = "memories.curate"


class CurateMemory(Payload):
    """Curate a persona's memory: what is new there, and what is near to it."""

    task_type: ClassVar[str] = "memory.curate"

    persona_id: UUID


def unique_key(persona_id: UUID) -> str:
    """Return the key that everybody enqueues it by, triggers too: a persona is curated once at a time."""
    return f"{CurateMemory.task_type}:{persona_id}"
