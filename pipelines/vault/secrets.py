"""A tenant's secrets by their names: written encrypted, read for whoever needs them, never listed clear."""

from core.errors import NotFoundError
from db import vault
from db.connection import Connection
from pipelines.vault.cipher import Cipher, Place, Sealed

_TABLE = "vault.secrets"
# A name that another writer took between two statements has its row then.
_TRIES = 3


def put_secret(connection: Connection, cipher: Cipher, name: vault.SecretName, value: str) -> None:
    """Write a secret, in place of the one that has the name. Needs a transaction bound to its tenant."""
    for _ in range(_TRIES):
        row_id = vault.secret_id(connection, name)
        sealed = cipher.seal(value, Place(_TABLE, name.tenant_id, row_id))
        if vault.put_secret(connection, name, row_id, sealed.text, sealed.key_id):
            return
    raise RuntimeError(f"the secret {name.key_name} was written by others {_TRIES} times over")


def read_secret(connection: Connection, cipher: Cipher, name: vault.SecretName) -> str:
    """Return a secret. Needs a transaction bound to its tenant. Raises NotFoundError and PermanentError."""
    stored = vault.secret(connection, name)
    if stored is None:
        raise NotFoundError(f"there is no secret {name.key_name} of the type {name.secret_type}")
    return cipher.open(Sealed(stored.text, stored.key_id), Place(_TABLE, stored.tenant_id, stored.id))
