"""Settings: read once by the composition root from the environment and `.env`, then passed down as values.

A name is `GREENROOM_` + group + field: `GREENROOM_RELAY_CLAIM_SECONDS` is `settings.relay.claim_seconds`. Times are in
seconds, sizes in bytes.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import SettingsError
from core.groups import (
    AlertsSettings,
    ArchiveSettings,
    BrokerSettings,
    DatabaseSettings,
    DocumentsSettings,
    EmbeddingSettings,
    EncryptionSettings,
    EndpointSettings,
    Group,
    HealthSettings,
    MailSettings,
    ObserveSettings,
    RelaySettings,
    SchedulerSettings,
    StatisticsSettings,
    StorageSettings,
    WorkerSettings,
    commas,
)
from core.memory_group import MemorySettings

PREFIX = "GREENROOM_"


def default_home() -> Path:
    """Return where the embedded server and the storage live: /var/lib/greenroom for root, else below ~/.local/share."""
    if os.geteuid() == 0:
        return Path("/var/lib/greenroom")
    return Path.home() / ".local" / "share" / "greenroom"


class Settings(BaseSettings):
    """All settings; see the groups for what each field means."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(default_factory=default_home, description="Folder of the embedded server and the storage.")
    task_modules: Annotated[tuple[str, ...], NoDecode] = Field((), description="Your task modules, with commas.")
    role_passwords: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Passwords of the login roles, as JSON by kind; unset: derived from the owner's.",
    )
    tenant: str = Field("default", description="Slug of the tenant that commands work for.")
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    relay: RelaySettings = RelaySettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    archive: ArchiveSettings = ArchiveSettings()
    documents: DocumentsSettings = DocumentsSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    endpoint: EndpointSettings = EndpointSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    observe: ObserveSettings = ObserveSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    alerts: AlertsSettings = AlertsSettings()
    health: HealthSettings = HealthSettings()
    mail: MailSettings = MailSettings()
    memory: MemorySettings = MemorySettings()

    @field_validator("task_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return commas(value)

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.relay.process_timeout < 2 * self.worker.lease_seconds / 3:
            raise ValueError(
                "relay.process_timeout must be at least two thirds of worker.lease_seconds: "
                "a worker says that it lives at each third, and may miss one"
            )
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether Greenroom brings its own Postgres."""
        return self.database.url is None

    @property
    def storage_root(self) -> Path:
        """The folder of the documents' files."""
        return self.storage.root or self.home / "storage"


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env` once; raises SettingsError with one line for each setting that is wrong."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines = [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(lines)) from None
    unknown = sorted(_given_names(overrides) - known_variables().keys())
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}: see docs/settings.md for what exists")
    return settings


def _given_names(overrides: dict[str, Any]) -> set[str]:
    """Return the names that begin as ours do, as the environment and the env file spell them.

    In any case: pydantic-settings does not tell `greenroom_` from `GREENROOM_`.
    """
    file = overrides.get("_env_file", Settings.model_config.get("env_file"))
    in_file = dotenv_values(file) if file else {}
    return {name.upper() for name in (*os.environ, *in_file) if name.upper().startswith(PREFIX)}


def known_variables() -> dict[str, str]:
    """Return each setting's environment variable with its meaning."""
    found = {}
    for name, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            for inner, detail in kind.model_fields.items():
                found[_variable((name, inner))] = detail.description or ""
        else:
            found[_variable((name,))] = info.description or ""
    return found


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + "_".join(str(part) for part in location[:2]).upper()
