"""The keys that secrets, encrypted payload fields and hashes stand under."""

from collections.abc import Iterator

from console.checks.findings import Finding, Sight, check
from core.errors import SettingsError
from db import health, vault

_SET = "set GREENROOM_ENCRYPTION_KEYS"


@check("keys", finds="encrypted fields, secrets or API keys are there, and the key that opens them is not")
def keys(sight: Sight) -> Iterator[Finding]:
    """The ring opens what stands encrypted; asked where workers run, who alone have it.

    The system role sees the secrets of all tenants; without an address of it, what it alone sees is not looked at.
    """
    if not sight.runs_work:
        return
    ring = [key.get_secret_value() for key in sight.settings.encryption.keys]
    try:
        known = _key_ids(ring)
    except SettingsError as error:
        yield Finding("keys", "wrong", str(error))
        return
    problems = [*_of_types(sight, known), *_of_secrets(sight, known)]
    yield from (Finding("keys", "wrong", problem) for problem in problems)
    if not problems:
        told = "" if sight.place.system_url else "; tenants' secrets were not looked at, for want of the system address"
        yield Finding("keys", "ok", (f"{len(known)} keys" if known else "none is set, and none is needed") + told)


def _key_ids(ring: list[str]) -> tuple[str, ...]:
    """Return the ids of the ring's keys; raises SettingsError for one that is none."""
    if not ring:
        return ()
    from pipelines.vault.cipher import Cipher  # few installations need the library

    return Cipher(ring).key_ids


def _of_types(sight: Sight, known: tuple[str, ...]) -> Iterator[str]:
    if not known and (types := vault.sealed_types(sight.connection)):
        yield f"tasks of {types[0]} have encrypted fields, and there is no key: {_SET} to the producers' ring"


def _of_secrets(sight: Sight, known: tuple[str, ...]) -> Iterator[str]:
    if sight.place.system_url is None:
        return
    connection = sight.connect(sight.place.system_url, pooled=sight.place.is_pooled)
    with connection, health.bounded(connection, sight.bounds.answer):
        in_use, has_hashes = vault.count_by_key(connection), vault.has_hashes(connection)
    for key_id, count in in_use.items():
        if key_id not in known:
            yield f"{count} secrets are under the key {key_id}, which the ring lacks: {_SET} to the ring that has it"
    if has_hashes and not known:
        yield f"API keys are hashed with a ring, and there is no key, so none opens: {_SET}"
