"""What a mailbox logs in with: the password that the vault has, or an access token that is had with it."""

from collections.abc import Callable

from db import vault
from db.vault import Stored
from pipelines.mail.tokens import AccessTokens
from pipelines.task import TaskContext
from pipelines.vault.cipher import Cipher, Place, Sealed


def credential(context: TaskContext, stored: Stored, kind: str, tokens: AccessTokens) -> str:
    """Return the password, or the access token where `kind` is xoauth2, for a task.

    A refresh token that the provider gives in place of the old one is kept at once: it may not take the old one again.
    Raises as `open_credential` does.
    """

    def keep(sealed: Sealed) -> None:
        with context.mark() as transaction:
            vault.change_secret(transaction.connection, stored, sealed.text, sealed.key_id)

    return open_credential(context.resources.get(Cipher), stored, kind, tokens, keep)


def open_credential(
    cipher: Cipher, stored: Stored, kind: str, tokens: AccessTokens, keep: Callable[[Sealed], None]
) -> str:
    """Return what is logged in with; `keep` is given the secret as it is from now on, if the provider changed it.

    Raises PermanentError for a secret that no key opens, LoginRefusedError and MailServerError as `AccessTokens` does.
    """
    place = Place(stored.table, stored.tenant_id, stored.id)
    secret = cipher.open(Sealed(stored.text, stored.key_id), place)
    if kind != "xoauth2":
        return secret
    access = tokens.access(secret)
    if access.renewed is not None:
        keep(cipher.seal(access.renewed, place))
    return access.token
