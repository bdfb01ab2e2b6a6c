"""Payloads: the typed arguments of a task type. A payload class owns its task type's name and version."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """Base of all payloads; fields are strict about what they do not know.

    `task_type` names the task type (`document.ingest`), `payload_version` counts changes of the fields, `aliases` are
    names that the type had before, `secret_fields` never appear in errors or listings, `encrypted_fields` neither, and
    stand encrypted in Postgres (`pipelines.keyring`): who enqueues gives a key ring, workers have one by the settings.
    `named_fields` hold names of Greenroom's own, such as tables: an error may say them, and no other value.
    """

    # A producer imports payloads of many types and writes few: a validator is built at its first use.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    task_type: ClassVar[str]
    payload_version: ClassVar[int] = 1
    aliases: ClassVar[tuple[str, ...]] = ()
    secret_fields: ClassVar[tuple[str, ...]] = ()
    encrypted_fields: ClassVar[tuple[str, ...]] = ()
    named_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
        """Turn the fields of an older `version` into today's; override it together with `payload_version`."""
        return fields
