"""The connector's own HTTP client, on the background loop: aiohttp, without its proxies, cookies and redirects.

It takes half the time of httpx, and a tenth with 100 queries at once: see `benchmarks/clients.py`.
"""

import asyncio
import io
import os
import ssl
import weakref
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
import httpx
from pydantic import SecretStr

from .background import BackgroundLoop, get_background_loop
from .endpoints import get_origin
from .given_clients import SyncClientTransport
from .proxies import Proxy, find_proxy
from .replies import HEADERS, Reply, read_body

LARGE = 2**20  # bytes of a body from which on aiohttp warns, unless it may read them piece by piece


class Transport(Protocol):
    """Sends one request and reads its answer."""

    async def send(self, method: str, url: str, content: bytes | None, key: SecretStr | None, seconds: float) -> Reply:
        """Return the answer, whatever its status; raise what the HTTP client raises."""


class _Connector(aiohttp.TCPConnector):
    """Aborts a connection that is given up: closed in the usual way, it would wait for a server that does not read."""

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        if should_close and protocol.transport:
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)


class AiohttpTransport:
    """One pool of connections on the background loop, opened with the first request, anew after a fork or `aclose`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._home: BackgroundLoop | None = None
        self._proxies: dict[str, Proxy | None] = {}
        self._socks: SyncClientTransport | None = None

    async def send(self, method: str, url: str, content: bytes | None, key: SecretStr | None, seconds: float) -> Reply:
        """Send a request; the seconds are for connecting and for each wait for data."""
        proxy = self.proxy(url)
        if proxy and proxy.url.lower().startswith("socks"):
            if self._home is not get_background_loop():  # also after a fork, which shares sockets with the parent
                self._home, self._socks = get_background_loop(), None
            self._socks = self._socks or SyncClientTransport(
                httpx.Client(proxy=proxy.url, trust_env=False, verify=_ssl_context())
            )
            return await self._socks.send(method, url, content, key, seconds)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        session = self._session if self._session and self._home is get_background_loop() else self._open(url)
        headers = HEADERS | {"Authorization": f"Bearer {key.get_secret_value()}"} if key else HEADERS
        async with session.request(
            method,
            url,
            data=io.BytesIO(content) if content and len(content) > LARGE else content,
            headers=headers,
            allow_redirects=False,
            timeout=limits,
            proxy=proxy.url if proxy else None,
        ) as response:
            body = await read_body(_parts(response), response.headers.get("content-encoding", ""))
            return Reply(response.status, response.headers, body)

    def proxy(self, url: str) -> Proxy | None:
        """Return the proxy for a URL; the environment is read once for each host."""
        origin = get_origin(url)
        if origin not in self._proxies:
            self._proxies[origin] = find_proxy(url)
        return self._proxies[origin]

    def _open(self, url: str) -> aiohttp.ClientSession:
        home = get_background_loop()
        secure = _ssl_context() if url.startswith("https:") or self.proxy(url) else True
        self._session = session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=secure),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._home = home
        home.opened.add(session)
        weakref.finalize(self, _close_later, home, session).atexit = False
        return session

    async def aclose(self) -> None:
        """Close the connections; a later request opens new ones."""
        home, session, self._session = self._home, self._session, None
        if self._socks:
            self._socks.close()
            self._socks = None
        if home and session and home is get_background_loop():
            await home.close(session)


async def _parts(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for part in response.content.iter_any():
        yield part


def _close_later(home: BackgroundLoop, session: aiohttp.ClientSession) -> None:
    if home is get_background_loop() and not home.loop.is_closed():
        asyncio.run_coroutine_threadsafe(home.close(session), home.loop)


def _ssl_context() -> ssl.SSLContext:
    """Trust what httpx trusts: its bundle of certificates, or SSL_CERT_FILE and SSL_CERT_DIR."""
    file = os.environ.get("SSL_CERT_FILE")
    try:
        if file and not os.path.isfile(file):  # noqa: PTH113 (httpx 0.27 would pass over it)
            raise FileNotFoundError("there is no such file")
        return httpx.create_ssl_context()
    except OSError as error:
        named = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        found = ", ".join(f"{name}={value}" for name, value in named.items() if value) or "the certificates"
        raise OSError(f"{found} cannot be used: {error}") from None
