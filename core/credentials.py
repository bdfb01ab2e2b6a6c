"""Passwords and API keys: what is stored of them, and whether what somebody shows is the one that was.

Passwords by Argon2id (RFC 9106) with 19 MiB, two passes and one lane, the least that OWASP's password storage cheat
sheet asks for: 25 ms on one core. API keys are random, 256 bits: a keyed hash (HMAC-SHA256) is enough and costs a
microsecond at each request; its key, the pepper, never stands in the database.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from core.errors import UsageError

_MEMORY_KIB: Final = 19 * 1024
_PASSES: Final = 2
_LANES: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
LEAST_PASSWORD: Final = 12
"""Characters of a password at the least (NIST SP 800-63B asks for 8)."""
MOST_PASSWORD: Final = 1024
"""Characters of a password at the most: hashing longer ones is work that anybody could ask for."""
KEY_MARK: Final = "gr_"
"""What an API key begins with, so that scanners for leaked secrets find it."""
_PREFIX_LENGTH: Final = len(KEY_MARK) + 8


def hash_password(password: str) -> str:
    """Return what is stored of a password, in PHC's form.

    Raises UsageError where it is too short or too long, or is not Unicode.
    """
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise UsageError(f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
    return _argon2().derive_phc_encoded(bytes_of(password, "a password"))


def is_password(password: str, stored: str | None) -> bool:
    """Tell whether a password is the one that was stored; what is stored of no password at all is none's."""
    if stored is None or len(password) > MOST_PASSWORD:
        return False
    try:
        Argon2id.verify_phc_encoded(password.encode(), stored)
    except (InvalidKey, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key as it was made: shown once, its prefix and hash are kept."""

    key: str = field(repr=False)
    prefix: str
    key_hash: str


def new_api_key(pepper: bytes) -> NewKey:
    """Make an API key."""
    key = KEY_MARK + secrets.token_urlsafe(32)
    return NewKey(key, key[:_PREFIX_LENGTH], hash_api_key(key, pepper))


def hash_api_key(key: str, pepper: bytes) -> str:
    """Return what a key is looked up by: the same for the same key and pepper.

    Raises UsageError without a pepper, and for a key that is not Unicode.
    """
    if not pepper:
        raise UsageError("API keys are hashed with a key of GREENROOM_ENCRYPTION_KEYS: set it")
    return hmac.new(pepper, bytes_of(key, "an API key"), hashlib.sha256).hexdigest()


def bytes_of(secret: str, what: str) -> bytes:
    """Return a secret in UTF-8. Raises UsageError, which says `what` it is and holds no value, for a lone surrogate."""
    # the codec's own error holds the text, also as the context of another that is raised while it is handled
    given = secret.encode(errors="surrogatepass")
    if given.decode(errors="ignore") != secret:
        raise UsageError(f"{what} holds half of a surrogate pair, which is not Unicode")
    return given


def _argon2() -> Argon2id:
    return Argon2id(
        salt=os.urandom(_SALT_BYTES), length=_HASH_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB
    )
