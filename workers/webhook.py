"""The webhook: posts one alert as JSON, within one deadline for all of it.

httpx, since it is the client of those locked whose whole exchange can be cut off: a timeout for each read lets a server
that drips a byte a second hold on for ever. Imported by a relay that has a webhook alone (7 MB).
Invariant: nothing of the address is written anywhere, as its path may be a secret, and nothing of the answer is read.
"""

import asyncio
import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from core.errors import UnavailableError
from db.alerts import Telling

SIGNATURE = "Greenroom-Signature"
DELIVERY = "Greenroom-Delivery"


class Webhook:
    """Where alerts are posted to. Redirects are not followed; proxies are those of the environment."""

    def __init__(self, url: SecretStr, secret: SecretStr | None, timeout: float) -> None:
        self._url = url
        self._secret = secret
        self._timeout = timeout
        # at info it writes each request's address
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def post(self, telling: Telling) -> None:
        """Post one state; raises UnavailableError, which says why, unless the answer is one of 200 to 299."""
        body = body_of(telling)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "greenroom",
            DELIVERY: f"{telling.id}:{telling.state}",
        }
        if self._secret is not None:
            headers[SIGNATURE] = sign(body, self._secret)
        try:
            status = asyncio.run(self._exchange(body, headers))
        except TimeoutError:
            raise UnavailableError(f"no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise UnavailableError(f"no answer: {type(error).__name__}") from None  # its text may name the address
        if not 200 <= status < 300:
            raise UnavailableError(f"answered {status}")

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> int:
        async with (
            asyncio.timeout(self._timeout),
            httpx.AsyncClient(timeout=None, follow_redirects=False) as client,  # noqa: S113 - the line above is it
            client.stream("POST", self._url.get_secret_value(), content=body, headers=headers) as response,
        ):
            return response.status_code


def body_of(telling: Telling) -> bytes:
    """Return what is posted; the row bounds its size (8 kB of facts)."""
    known = {
        "id": str(telling.id),
        "state": telling.state,
        "kind": telling.kind,
        "key": telling.key,
        "facts": telling.facts,
        "raised_at": telling.raised_at.isoformat(),
        "resolved_at": telling.resolved_at.isoformat() if telling.state == "resolved" and telling.resolved_at else None,
        "sent_at": datetime.now(UTC).isoformat(),
        "try": telling.tries,
    }
    return json.dumps(known).encode()


def sign(body: bytes, secret: SecretStr) -> str:
    """Return the signature's header: `sha256=` and the hexadecimal HMAC of the body as it is sent."""
    return "sha256=" + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
