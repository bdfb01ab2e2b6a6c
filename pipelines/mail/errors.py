"""What goes wrong between us and a mail server. The texts are for operators; they quote no mail and no secret."""

from core.errors import PermanentError, RetryableError


class MailServerError(RetryableError):
    """A server cannot be reached, is not who it says, breaks off, is silent or talks nonsense."""


class LoginRefusedError(PermanentError):
    """A server does not take the login: somebody has to mend it."""


class FolderMissingError(PermanentError):
    """A mailbox has no folder of that name, or it cannot be opened."""
