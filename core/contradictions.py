"""Settings that are allowed, each by itself, and are hardly meant together."""

import os
from collections.abc import Iterator

from core.settings import Settings


def contradictions(settings: Settings) -> list[str]:
    """Return what contradicts or outdoes itself, one sentence each that names the settings."""
    return [*_of_queue(settings), *_of_places(settings), *_of_model(settings)]


def _of_queue(settings: Settings) -> Iterator[str]:
    cores = os.cpu_count() or 1
    relay, worker, alerts = settings.relay, settings.worker, settings.alerts
    if worker.threads > 4 * cores:
        yield f"worker.threads is {worker.threads} on {cores} cores: handlers share one interpreter"
    if relay.poll_seconds_deaf > relay.poll_seconds:
        yield "relay.poll_seconds_deaf is longer than relay.poll_seconds: the relay that hears nothing polls less often"
    if alerts.stalled_seconds <= relay.claim_seconds:
        yield "alerts.stalled_seconds is within relay.claim_seconds: one claim given back is an alert"
    if alerts.webhook_url is None and alerts.webhook_secret is not None:
        yield "alerts.webhook_secret without alerts.webhook_url: nobody is told of alerts"


def _of_places(settings: Settings) -> Iterator[str]:
    database, storage = settings.database, settings.storage
    if database.is_pooled and database.direct_url is None:
        yield "database.is_pooled without database.direct_url: LISTEN hears nothing, the relay polls"
    if database.url is None and database.direct_url is not None:
        yield "database.direct_url without database.url: the embedded server is used, and neither of them"
    if storage.url is not None and storage.root is not None:
        yield "storage.root beside storage.url: files go to the URL, the folder is not used"
    if storage.url is None and storage.options is not None:
        yield "storage.options without storage.url: a folder takes no options"


def _of_model(settings: Settings) -> Iterator[str]:
    embedding, endpoint = settings.embedding, settings.endpoint
    cores = os.cpu_count() or 1
    if embedding.threads > cores:
        yield f"embedding.threads is {embedding.threads} on {cores} cores: forward passes wait for each other"
    if endpoint.url is not None and endpoint.model not in {embedding.model, *embedding.other_models}:
        yield "endpoint.url, and neither embedding.model nor .other_models names endpoint.model: nobody asks it"
