"""Secrets that stand encrypted in Postgres, and open in the row that they were written for alone.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits; stored is the base64 of nonce, ciphertext and tag. The
row's table, tenant and id are the associated data: a value that was moved to another row does not open. Keys are
derived by HKDF-SHA256 from those of GREENROOM_ENCRYPTION_KEYS, so that no key serves two ciphers; the first one
encrypts, all open. Each value stands beside the id of its key, a digest: rotation finds what is under an old one by it.
Why not pgcrypto: docs/decisions/0009-secrets.md.
"""

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.credentials import bytes_of
from core.errors import PermanentError, SettingsError

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Place:
    """The row that a secret stands in: schema and table, tenant and id."""

    table: str
    tenant_id: UUID
    row_id: UUID

    @property
    def associated_data(self) -> bytes:
        """The bytes that a ciphertext is bound to."""
        return f"{self.table}/{self.tenant_id}/{self.row_id}".encode()


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted value as it is stored, and the id of the key that opens it."""

    text: str
    key_id: str


class Cipher:
    """Encrypts with the first of its keys and opens with any. Raises SettingsError for a key that is none."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SettingsError("secrets need a key: set GREENROOM_ENCRYPTION_KEYS")
        self._keys = dict(_derived(key) for key in keys)
        self.key_id = next(iter(self._keys))
        """The id of the key that encrypts."""
        self.peppers = tuple(_expanded(_bytes_of(key), b"greenroom api keys", _KEY_BYTES) for key in keys)
        """What API keys are hashed with (`core.credentials`): new ones with the first, known ones with any of them."""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of all keys, the one that encrypts first."""
        return tuple(self._keys)

    def seal(self, value: str, place: Place) -> Sealed:
        """Encrypt a value for the row that it will stand in. Raises UsageError for one that is not Unicode."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys[self.key_id].encrypt(nonce, bytes_of(value, "a secret"), place.associated_data)
        return Sealed(base64.b64encode(nonce + sealed).decode(), self.key_id)

    def open(self, sealed: Sealed, place: Place) -> str:
        """Return the value. Raises PermanentError where its key is gone, or it was changed or moved."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise PermanentError(
                f"{place.table} {place.row_id} is under the key {sealed.key_id}, which GREENROOM_ENCRYPTION_KEYS lacks"
            )
        try:
            stored = base64.b64decode(sealed.text, validate=True)
            opened = key.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], place.associated_data)
        except (InvalidTag, ValueError, binascii.Error):
            raise PermanentError(f"{place.table} {place.row_id} does not open: it was changed, or moved here") from None
        return opened.decode()


def _derived(key: str) -> tuple[str, AESGCM]:
    given = _bytes_of(key)
    found = _expanded(given, b"greenroom vault key", _KEY_BYTES)
    return _expanded(given, b"greenroom vault key id", _ID_BYTES).hex(), AESGCM(found)


def _bytes_of(key: str) -> bytes:
    try:
        given = base64.urlsafe_b64decode(key)
    except (ValueError, binascii.Error):
        given = b""
    if len(given) != _KEY_BYTES:
        raise SettingsError("a key of GREENROOM_ENCRYPTION_KEYS is not 32 bytes in URL-safe base64")
    return given


def _expanded(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose).derive(key)
