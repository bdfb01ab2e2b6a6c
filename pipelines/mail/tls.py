"""What connections to mail servers are checked by, whichever way the mail goes."""

import ssl
from pathlib import Path

from core.errors import SettingsError


def tls_context(authorities: Path | None) -> ssl.SSLContext:
    """Return a context of the system's authorities, and those of a file of one's own.

    Raises SettingsError for a file that holds none.
    """
    context = ssl.create_default_context()
    try:
        if authorities is not None:
            context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError):
        raise SettingsError(f"GREENROOM_MAIL_CA_FILE: {authorities} holds no certificates in PEM") from None
    return context
