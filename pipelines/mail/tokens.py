"""Access tokens for XOAUTH2: what the vault has is one, or what one is fetched with (RFC 6749, section 6).

The secret of a mailbox is the token itself, or JSON with `client_id`, `refresh_token`, `token_url` and, where the
provider wants it, `client_secret` and `scope`. Tokens are kept in the process until they lapse.
"""

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from pipelines.mail.errors import LoginRefusedError, MailServerError

_SECONDS: Final = 20.0
# A token that lapses while it is used is refused.
_MARGIN: Final = 60.0
_UNSAID: Final = 300.0
_MOST_BYTES: Final = 100_000
_FIELDS: Final = ("client_id", "refresh_token", "token_url")


@dataclass(frozen=True, slots=True)
class Access:
    """A token, and the secret as it has to be kept from now on where the provider gave another refresh token."""

    token: str
    renewed: str | None = None


class AccessTokens:
    """The tokens of this process, by the secrets that they were fetched with. Safe to use from many threads."""

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport
        self._known: dict[bytes, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def access(self, secret: str) -> Access:
        """Return a token for a secret. Raises LoginRefusedError, and MailServerError where the provider is away."""
        grant = _grant_of(secret)
        if grant is None:
            return Access(secret)
        key = _digest(secret)
        with self._lock:
            token, until = self._known.get(key, ("", 0.0))
        if time.monotonic() < until:
            return Access(token)
        answer = self._fetch(grant)
        renewed = answer.get("refresh_token")
        is_new = isinstance(renewed, str) and renewed not in ("", grant["refresh_token"])
        kept = json.dumps(grant | {"refresh_token": renewed}) if is_new else None
        self._remember(_digest(kept) if kept else key, answer)
        return Access(str(answer["access_token"]), kept)

    def forget(self, token: str) -> None:
        """Fetch anew the next time: the server did not take the token."""
        with self._lock:
            self._known = {key: found for key, found in self._known.items() if found[0] != token}

    def _remember(self, key: bytes, answer: dict[str, Any]) -> None:
        lives = answer.get("expires_in")
        seconds = float(lives) if isinstance(lives, int | float) else _UNSAID
        with self._lock:
            now = time.monotonic()
            self._known = {each: found for each, found in self._known.items() if found[1] > now}
            self._known[key] = (str(answer["access_token"]), now + seconds - _MARGIN)

    def _fetch(self, grant: dict[str, str]) -> dict[str, Any]:
        where = httpx.URL(grant["token_url"]).host
        asked = {"grant_type": "refresh_token"} | {
            name: grant[name] for name in ("client_id", "client_secret", "refresh_token", "scope") if grant.get(name)
        }
        try:
            with httpx.Client(
                timeout=_SECONDS, follow_redirects=False, trust_env=False, transport=self._transport
            ) as own:
                response = own.post(grant["token_url"], data=asked, headers={"Accept": "application/json"})
        except httpx.HTTPError as error:
            raise MailServerError(f"the token server {where} cannot be reached ({type(error).__name__})") from None
        if response.status_code in (400, 401, 403):
            raise LoginRefusedError(f"the token server {where} refuses the refresh token ({_code(response)})")
        answer = _json(response)
        if response.status_code != httpx.codes.OK or not isinstance(answer.get("access_token"), str):
            raise MailServerError(f"the token server {where} gave no token (status {response.status_code})")
        return answer


def _grant_of(secret: str) -> dict[str, str] | None:
    """Return what a token is fetched with; None where the secret is a token. Raises LoginRefusedError."""
    if not secret.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(secret)
    except ValueError:
        found = {}
    missing = [name for name in _FIELDS if not isinstance(found.get(name), str) or not found[name]]
    if missing:
        raise LoginRefusedError(f"the mailbox's secret is JSON without {', '.join(missing)}: write it anew")
    if httpx.URL(found["token_url"]).scheme != "https" and not _is_local(found["token_url"]):
        raise LoginRefusedError("the mailbox's secret has a token_url that is not https: write it anew")
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _is_local(url: str) -> bool:
    return httpx.URL(url).host in ("localhost", "127.0.0.1", "::1")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        found = json.loads(response.content[:_MOST_BYTES])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _code(response: httpx.Response) -> str:
    """Return the error's code, of which RFC 6749 knows a few; nothing else that the server says."""
    code = _json(response).get("error")
    is_word = isinstance(code, str) and code.replace("_", "").isascii() and code.replace("_", "").isalnum()
    return str(code)[:40] if is_word else f"status {response.status_code}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
