"""Files by URL, from outside only: no task makes this process ask a server of the network that it stands in.

Invariant: a connection is made to an address that was checked, and not to a name that may lead elsewhere by then.
Redirects are followed by hand, each checked like the first; size and time are bounded over all of them.
"""

import asyncio
import ipaddress
import logging
import mimetypes
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import BinaryIO, Final

import httpx

from core.errors import RetryableError
from core.retry_after import retry_after
from pipelines.documents.errors import AddressRefusedError, FetchRefusedError, TooLargeError
from pipelines.documents.parsing import is_read, media_type_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215

_MAX_REDIRECTS: Final = 5
_MAX_WAIT: Final = timedelta(days=1)
_MAX_NAME: Final = 200
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HEADERS: Final = {
    "User-Agent": "greenroom",
    "Accept": "*/*",
    # What is unpacked on the way could be a thousand times what was sent.
    "Accept-Encoding": "identity",
}
_BUSY: Final = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: the name that its document is given, the last address and the number of bytes."""

    name: str
    url: str
    size: int


class Fetcher:
    """Fetches files over HTTP and HTTPS. `networks` are those inside which may be asked too; proxies are not used."""

    def __init__(self, *, max_bytes: int, seconds: float, networks: Sequence[Network] = ()) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._networks = tuple(networks)
        # at info it writes each request's address, which may hold a secret
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def fetch(self, url: str, into: BinaryIO) -> Fetched:
        """Write what stands at a URL into a file.

        Raises AddressRefusedError, FetchRefusedError for what will not change, TooLargeError, and RetryableError for a
        server that is away or busy. None of them quotes the URL's path.
        """
        try:
            return asyncio.run(self._fetch(url, into))
        except TimeoutError:
            raise RetryableError(f"The file did not arrive within {self._seconds:g} s.") from None
        except httpx.InvalidURL:
            raise AddressRefusedError("The URL cannot be read; check it and ingest it again.") from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise RetryableError(f"The file's server cannot be reached: {type(error).__name__}.") from None

    async def _fetch(self, url: str, into: BinaryIO) -> Fetched:
        target = httpx.URL(url)
        async with (
            asyncio.timeout(self._seconds),
            httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,  # noqa: S113 - above
        ):
            for _ in range(_MAX_REDIRECTS + 1):
                request = await self._request(client, target)
                response = await client.send(request, stream=True)
                try:
                    if response.has_redirect_location:
                        target = _redirected(target, response.headers["Location"])
                        continue
                    _check_status(response)
                    size = await self._receive(response, into)
                finally:
                    await response.aclose()
                return Fetched(_name(target, response.headers), str(target), size)
        raise FetchRefusedError(f"The URL redirects more than {_MAX_REDIRECTS} times; give the last one.")

    async def _request(self, client: httpx.AsyncClient, target: httpx.URL) -> httpx.Request:
        """Return a request to an address of the URL's host that was checked."""
        if target.scheme not in ("http", "https") or not target.host or target.userinfo:
            raise AddressRefusedError("A URL begins with http:// or https://, names a host, and no user; change it.")
        address = await self._address(target.host, target.port or (443 if target.scheme == "https" else 80))
        host = f"[{address}]" if address.version == 6 else str(address)
        # The certificate is checked against the name, as if it had been connected to.
        return client.build_request(
            "GET",
            target.copy_with(host=host, fragment=None),
            headers=_HEADERS | {"Host": target.netloc.decode("ascii")},
            extensions={"sni_hostname": target.raw_host.decode("ascii")},
        )

    async def _address(self, host: str, port: int) -> Address:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        # All of them, or a name with two could be tried until the one answers that should not.
        if not addresses or not all(self._may_ask(address) for address in addresses):
            raise AddressRefusedError(
                "The URL leads to an address that is not public; name its network in "
                "GREENROOM_DOCUMENTS_FETCH_NETWORKS if it may be asked."
            )
        return addresses[0]

    def _may_ask(self, address: Address) -> bool:
        inner = _inner(address)
        if any(candidate in network for network in self._networks for candidate in (address, inner)):
            return True
        return _is_public(inner) and (inner is not address or _is_public(address))

    async def _receive(self, response: httpx.Response, into: BinaryIO) -> int:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchRefusedError(
                "The server sends the file packed although it was asked not to; download it yourself."
            )
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > self._max_bytes:
                raise TooLargeError(f"The file is larger than the allowed {self._max_bytes} bytes; split it.")
            into.write(piece)
        return size


def _is_public(address: Address) -> bool:
    is_old_local = isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address in _LOCAL_NAT64)
    return address.is_global and not (address.is_multicast or address.is_reserved or is_old_local)


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries and may be delivered to, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


def _redirected(target: httpx.URL, location: str) -> httpx.URL:
    found = target.join(location)
    if target.scheme == "https" and found.scheme != "https":
        raise AddressRefusedError("The URL redirects from https to an address that is not; give the last one.")
    return found


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status in _BUSY or status >= 500:
        wait = retry_after(response.headers.get("Retry-After"), most=_MAX_WAIT)
        raise RetryableError(f"The file's server answered {status}.", retry_after=wait)
    if not 200 <= status < 300:
        raise FetchRefusedError(f"The file's server answered {status}; check the URL and ingest it again.")


def _name(target: httpx.URL, headers: httpx.Headers) -> str:
    """Return the last part of the path, with the ending of the media type where it says another one."""
    name = _CONTROLS.sub("", PurePosixPath(target.path).name)[-_MAX_NAME:] or target.host
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    # `Node.js` and `index.php` may be pages; that something is plain text says less than its name does.
    extension = mimetypes.guess_extension(media_type) or ""
    says_more = media_type != "text/plain" or not PurePosixPath(name).suffix
    return name + extension if says_more and is_read(f"a{extension}") and media_type_of(name) != media_type else name
