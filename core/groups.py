"""The groups of settings: what each is, its default and its bounds. Times are in seconds, sizes in bytes."""

import json
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode


def commas(value: Any) -> Any:
    """Return the parts of a text with commas; anything else as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Group(BaseModel):
    """Base of the groups: unknown fields are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(Group):
    """Where Postgres is."""

    url: SecretStr | None = Field(
        None, description="Login of this process; for `up` and `db migrate` the owner's. Unset: the embedded server."
    )
    direct_url: SecretStr | None = Field(
        None, description="Past a pooler, for LISTEN and migrations; unset: the same as url."
    )
    system_url: SecretStr | None = Field(
        None,
        description="Login of the system role, for task types that work across tenants; unset: told by an owner's url.",
    )
    is_pooled: bool = Field(
        False, description="A pooler in transaction mode stands before url: no prepared statements."
    )


class BrokerSettings(Group):
    """Where messages travel."""

    url: SecretStr | None = Field(None, description="redis:// or rediss://; unset: in process, with `up` only.")
    namespace: str = Field("greenroom", description="Prefix of the keys in Redis; one for each installation.")


class RelaySettings(Group):
    """How the relay claims and publishes."""

    claim_seconds: float = Field(
        30.0, ge=1, description="A claim that no worker took by then is given back, at no cost."
    )
    batch: int = Field(1000, ge=1, le=10_000, description="Most tasks that one claim statement takes.")
    depth: float = Field(
        2.0,
        ge=1,
        le=100,
        description="Messages on their way over Redis for each slot: more keeps workers busy, fewer reorders less.",
    )
    poll_seconds: float = Field(
        5.0, gt=0, le=60, description="Longest sleep while LISTEN works; polling stays the truth."
    )
    poll_seconds_deaf: float = Field(0.5, gt=0, le=60, description="Longest sleep while LISTEN does not work.")
    rescue_seconds: float = Field(1.0, gt=0, le=60, description="Pause between looks for expired leases and claims.")
    process_timeout: float = Field(30.0, ge=2, description="A process silent for this long is not given work any more.")


class SchedulerSettings(Group):
    """How schedules are fired."""

    poll_seconds: float = Field(
        5.0,
        gt=0,
        le=60,
        description="Longest sleep of a scheduler: by then it sees changes of schedules and of clocks.",
    )
    misfire_seconds: float = Field(
        60.0,
        ge=1,
        le=86_400,
        description="A fire that is settled later than this is missed: its schedule says what then.",
    )
    fires_keep_days: int = Field(
        90, ge=2, le=3650, description="Fires older than that are forgotten; clocks may be off by less, no more."
    )


class WorkerSettings(Group):
    """How a worker process runs tasks."""

    processes: int = Field(
        1, ge=1, le=64, description="Worker processes of one `greenroom up` or `worker`; one that ends is replaced."
    )
    threads: int = Field(
        4,
        ge=1,
        le=64,
        description="Messages at a time in a process. Handlers share one interpreter: more help those that wait.",
    )
    queues: Annotated[tuple[str, ...], NoDecode] = Field((), description="Queues to serve, with commas; empty: all.")
    lease_seconds: float = Field(
        30.0, ge=2, description="A lease not renewed for this long is rescued. Renewed at a third of it."
    )
    grace_seconds: float = Field(
        20.0, ge=0, description="At SIGTERM, running attempts have this long before they are handed back."
    )
    target_seconds: float = Field(1.0, gt=0, description="Batches grow and shrink so that one takes about this long.")
    recycle_tasks: int = Field(
        0, ge=0, description="After so many attempts a process finishes what runs and is replaced; 0: never."
    )
    memory_limit: int = Field(
        0, ge=0, description="A process with more resident memory finishes what runs and is replaced; 0: no limit."
    )
    interrupt_seconds: float = Field(
        5.0,
        ge=0.5,
        description="A handler that heeds no interruption for this long is given up with its process.",
    )

    @field_validator("queues", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return commas(value)


class _StoreSettings(Group):
    """What opens a store: its URL, and options for whatever library knows it."""

    url: SecretStr | None = None
    options: SecretStr | None = None

    def parsed_options(self) -> dict[str, Any]:
        """Return the options, none if there are none."""
        return {} if self.options is None else dict(json.loads(self.options.get_secret_value()))

    @model_validator(mode="after")
    def _are_an_object(self) -> Self:
        try:
            is_object = self.options is None or isinstance(json.loads(self.options.get_secret_value()), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError("options is no JSON object")  # its text may hold a secret
        return self


class StorageSettings(_StoreSettings):
    """Where documents' files are kept."""

    root: Path | None = Field(None, description="Folder of the files, one subfolder a tenant; unset: storage/ in home.")
    url: SecretStr | None = Field(
        None, description="Another store instead of a folder, as fsspec names it: s3://bucket/folder (extra: s3)."
    )
    options: SecretStr | None = Field(
        None, description='A JSON object that fsspec is given with it: {"endpoint_url": "https://s3.example.org"}.'
    )
    temporary_hours: float = Field(
        24.0, gt=0, le=87_600, description="Files in a tenant's folder `temporary` are removed when they are so old."
    )


class ArchiveSettings(_StoreSettings):
    """Where archives of aged rows are kept."""

    url: SecretStr | None = Field(
        None, description="A folder (file:///archives) or a store as fsspec names it; unset: archives/ in the storage."
    )
    options: SecretStr | None = Field(
        None, description="A JSON object that fsspec is given with it; unset: the storage's, where url is unset, too."
    )


Language = Literal[
    "auto", "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french",
    "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian",
    "portuguese", "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
"""The text search configurations that PostgreSQL 16 and later come with, or auto."""


class DocumentsSettings(Group):
    """Bounds of what is ingested, and how it is cut into chunks."""

    max_bytes: int = Field(50_000_000, ge=1, description="Larger files are refused.")
    max_pages: int = Field(2_000, ge=1, description="Documents of more pages, slides, sheets or chapters are refused.")
    max_characters: int = Field(60_000_000, ge=1, description="Files whose text is longer are refused.")
    parser_seconds: float = Field(300.0, gt=0, le=800, description="Wall time of one document in the parser's process.")
    parser_memory: int = Field(2_000_000_000, ge=500_000_000, description="Address space of the parser's process.")
    fetch_seconds: float = Field(
        120.0, gt=0, description="Wall time of fetching one file by its URL, redirects included."
    )
    fetch_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="Networks that are not public and may be fetched from, with commas: 10.0.8.0/24."
    )
    ocr: bool = Field(False, description="Read scans: pages of PDFs, PNG and JPEG (extra: ocr); seconds a page.")
    chunk_header: str = Field(
        "{title} \u203a {section}",
        max_length=200,
        description="Embedded and searched with each chunk; {title} and {section} are filled in. Empty: nothing.",
    )
    language: Language = Field(
        "auto",
        description="Of the documents: a text search configuration of Postgres; auto: what each is written in.",
    )

    @field_validator("fetch_networks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return commas(value)

    @field_validator("chunk_header")
    @classmethod
    def _known_fields(cls, value: str) -> str:
        try:
            value.format(title="", section="")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError("it may name {title} and {section}, nothing else") from None
        return value


class EmbeddingSettings(Group):
    """The model and how it is driven; the defaults are measured in docs/decisions/0003-embedding-settings.md."""

    model: str = Field("all-MiniLM-L6-v2", description="The packaged model's name, or the path of a local model.")
    other_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Models besides, as above, with commas: of spaces that stand beside the first one."
    )
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes in it, else fp32."
    )
    batch_tokens: int = Field(2048, ge=256, description="Tokens (padding included) of one forward pass.")
    threads: int = Field(0, ge=0, le=64, description="Forward passes at a time, a thread each; 0: one for each core.")

    @field_validator("other_models", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return commas(value)


class EndpointSettings(Group):
    """An endpoint of OpenAI's protocol that embeds, for spaces of its model (extra: openai)."""

    url: str | None = Field(None, description="Its base address: https://api.example.org/v1; unset: there is none.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    model: str | None = Field(None, description="Its model, by whose name embedding.other_models or .model choose it.")
    dimensions: int | None = Field(None, ge=1, le=4000, description="Length of its vectors.")
    asks_dimensions: bool = Field(False, description="Ask for that length in each request; few models know others.")
    revision: str | None = Field(None, min_length=1, max_length=50, description="What tells its vectors from others'.")
    max_tokens: int = Field(8191, ge=32, description="Tokens (cl100k_base) that it reads; longer texts are cut.")
    batch: int = Field(128, ge=1, le=2048, description="Texts in one request.")
    seconds: float = Field(60.0, gt=0, description="How long an answer may take.")
    price: float = Field(0.0, ge=0, description="For a million tokens; tasks say what they cost.")


class EncryptionSettings(Group):
    """Keys of payload fields that stand encrypted in Postgres."""

    keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="32 bytes in URL-safe base64 each, with commas. The first encrypts, all open."
    )

    @field_validator("keys", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return commas(value)


class ObserveSettings(Group):
    """Logs, metrics and traces."""

    log_format: Literal["console", "json"] = Field("console", description="console for people, json for programs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Serve Prometheus metrics at this port of metrics_address; unset: do not."
    )
    metrics_address: str = Field("127.0.0.1", description="Address of the metrics server.")
    otlp_endpoint: str | None = Field(None, description="OTLP/HTTP address of a collector; unset: no traces.")


class StatisticsSettings(Group):
    """What happened by minute, for charts."""

    keep_days: int = Field(
        30, ge=1, le=3650, description="Minutes, and alerts that are over, are forgotten after days."
    )


class AlertsSettings(Group):
    """What is wrong enough to tell somebody, and whom; docs/alerts.md."""

    webhook_url: SecretStr | None = Field(
        None, description="http:// or https:// address that each alert is posted to as JSON; unset: nobody is told."
    )
    webhook_secret: SecretStr | None = Field(
        None, min_length=16, description="Signs what is posted (HMAC-SHA256), at least 16 characters; unset: unsigned."
    )
    webhook_timeout: float = Field(5.0, gt=0, le=60, description="Seconds for one whole exchange with the webhook.")
    failures: int = Field(1, ge=1, le=10_000, description="Final failures of a task type within failure_seconds.")
    failure_seconds: float = Field(600.0, ge=1, le=86_400, description="How far back final failures are counted.")
    stalled_seconds: float = Field(
        300.0, ge=1, description="A task is due for this long, and nothing of its queue starts or ends meanwhile."
    )
    late_seconds: float = Field(60.0, ge=1, description="A loop whose next good round is overdue by this much is dead.")
    clock_seconds: float = Field(
        5.0, ge=0.1, description="`doctor`: this host's clock, Postgres' and Redis' may be apart by this much."
    )

    @field_validator("webhook_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        parts = None if value is None else urlsplit(value.get_secret_value())
        if parts is not None and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("must be an address that begins with http:// or https://")
        return value


class GroupingSettings(Group):
    """Which of a persona's chunks are condensed together, and how many at a time."""

    similarity: float = Field(
        0.55,
        ge=0,
        le=1,
        description="Chunks whose vectors' cosine is at least this are related, and summed up together.",
    )
    same: float = Field(
        0.97,
        ge=0,
        le=1,
        description="From this cosine on, chunks that name the same numbers are one; of 1: equal texts.",
    )
    sources: int = Field(
        8, ge=2, le=64, description="Most chunks that are summed up together, not counting those that say the same."
    )
    tokens: int = Field(
        550,
        ge=100,
        le=100_000,
        description="Most tokens (cl100k_base) of what is summed up together; share of them fits the model.",
    )
    page: int = Field(200, ge=1, le=2000, description="New chunks of one attempt.")
    nearest: int = Field(12, ge=1, le=100, description="Related chunks that are looked for of each new one.")


class HealthSettings(Group):
    """How personas are measured, and from when on somebody is told; docs/health.md."""

    docker_url: str = Field(
        "unix:///var/run/docker.sock",
        pattern=r"^(unix|tcp|http)://",
        description="The Docker engine of the worker's own host, which measures containers: unix://, tcp:// or http://.",
    )
    docker_seconds: float = Field(5.0, gt=0, le=10, description="How long the engine has for one persona's measure.")
    cpu_percent: float = Field(
        90.0, ge=0, le=100, description="Told of from here on, where a tenant sets nothing; 0: never."
    )
    memory_percent: float = Field(90.0, ge=0, le=100, description="As cpu_percent.")
    disk_gb: float = Field(0.0, ge=0, description="As cpu_percent, in GB.")
    cost: float = Field(0.0, ge=0, description="As cpu_percent, in USD of one measure.")


class MailSettings(Group):
    """Bounds of a mail that is read, above which the mail's row says what was left out, and servers; docs/mail.md."""

    max_bytes: int = Field(50_000_000, ge=1, description="Of a larger mail only the headers are fetched and kept.")
    max_parts: int = Field(1_000, ge=1, le=100_000, description="Parts of a mail that are read.")
    max_depth: int = Field(
        50, ge=1, le=100, description="Parts within parts that are read; deeper ones are kept as one file."
    )
    max_attachment_bytes: int = Field(50_000_000, ge=1, description="Larger files of a mail are left out.")
    max_text_characters: int = Field(10_000_000, ge=1, description="A mail's text and its HTML are cut after so many.")
    silence_seconds: float = Field(30.0, gt=0, le=300, description="How long a mail server may be silent.")
    data_seconds: float = Field(
        600.0, gt=0, le=1200, description="How long the server that is given a mail may take to say that it has it."
    )
    answer_seconds: float = Field(
        120.0, gt=0, le=500, description="How long one answer of a mail server that is read may take as a whole."
    )
    watch: bool = Field(True, description="Whether `up` watches mailboxes by IDLE; without, the schedule alone polls.")
    watch_seconds: float = Field(
        5.0, gt=0, le=600, description="How often a watcher reads which mailboxes there are, and tries to be the one."
    )
    watch_most: int = Field(500, ge=1, le=20_000, description="Mailboxes watched; each is a connection, kept open.")
    idle_seconds: float = Field(
        1500.0,
        gt=0,
        le=1740,
        description="How long a connection is in IDLE before that is renewed; 29 minutes at most.",
    )
    ca_file: Path | None = Field(
        None, description="Certificates (PEM) of authorities that mail servers are believed by, beside the system's."
    )
