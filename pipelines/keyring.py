"""The key ring: fields of a payload that stand encrypted in Postgres, for task types that ask for it.

A field is stored as `{"encrypted": "<token>"}`. The token is Fernet's (AES-128-CBC with HMAC-SHA256, authenticated,
https://github.com/fernet/spec) over the JSON of [task type, field, value]: one that was moved to another field or type
does not open. The first key of the ring encrypts, all of them open: to change keys, put the new one in front.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from core.errors import PermanentError, SettingsError

_MARK = "encrypted"
STORED_SCHEMA = {
    "type": "object",
    "properties": {_MARK: {"type": "string"}},
    "required": [_MARK],
    "additionalProperties": False,
}
"""The JSON schema of a field as it is stored."""


class KeyRing:
    """Keys that encrypt and open fields; each is 32 random bytes in URL-safe base64 (`Fernet.generate_key()`)."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SettingsError("a key ring needs at least one key")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SettingsError(
                "a key of the ring is not 32 bytes in URL-safe base64: make one with "
                '`python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"`'
            ) from None

    def seal(self, task_type: str, names: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields with the named ones encrypted; what is absent or null stays so."""
        sealed = dict(fields)
        for name in names:
            if sealed.get(name) is not None:
                text = json.dumps([task_type, name, sealed[name]])
                sealed[name] = {_MARK: self._fernet.encrypt(text.encode()).decode()}
        return sealed

    def open(self, task_type: str, names: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields with the named ones readable; raises PermanentError for one that no key opens."""
        opened = dict(fields)
        for name in names:
            if opened.get(name) is not None:
                opened[name] = self._open_one(task_type, name, opened[name])
        return opened

    def _open_one(self, task_type: str, name: str, stored: Any) -> Any:
        token = stored.get(_MARK) if isinstance(stored, dict) else None
        if not isinstance(token, str):
            raise PermanentError(f"the field {name} is not encrypted, as its task type asks")
        try:
            kind, field, value = json.loads(self._fernet.decrypt(token))
        except InvalidToken:
            raise PermanentError(f"no key of the ring opens the field {name}: GREENROOM_ENCRYPTION_KEYS") from None
        if (kind, field) != (task_type, name):
            raise PermanentError(f"the field {name} was encrypted for another field or task type")
        return value
