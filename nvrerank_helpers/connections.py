"""The HTTP clients of a `RankingClient`: made when first needed, reused, and closed when their time is over."""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Generator

import httpx
from pydantic import SecretStr


class BearerAuth(httpx.Auth):
    """Put the key into the header at the last moment, so that it stands in no local variable of ours."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header that NVIDIA's services want."""
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class Connections:
    """One sync client, and one async client for each event loop.

    Args:
        keep_alive: How many idle connections each client keeps.
        http_client: The caller's own client, with its proxies and certificates; it is used as it is and never
            closed here.
        async_http_client: The same for the async methods.

    Example:
        >>> connections = Connections(keep_alive=8)
        >>> connections.sync_client() is connections.sync_client()
        True
        >>> connections.close()
    """

    def __init__(
        self,
        keep_alive: int,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._limits = httpx.Limits(max_connections=None, max_keepalive_connections=keep_alive)
        self._given = http_client
        self._given_async = async_http_client
        self._inherited: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._own: httpx.Client | None = None
        # An AsyncClient belongs to the event loop of its first request: a later loop needs its own.
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = weakref.WeakKeyDictionary()

    def _leave_to_the_parent(self) -> None:
        """After a fork, begin anew: sockets shared with the parent must neither be used here nor be closed."""
        if self._process != os.getpid():
            self._inherited += [self._own, *self._loops.values()]
            self._begin()

    def sync_client(self) -> httpx.Client:
        """Return the caller's client or our own, made once however many threads ask first."""
        if self._given:
            return self._given
        self._leave_to_the_parent()
        with self._lock:
            if self._own is None:
                self._own = httpx.Client(limits=self._limits)
                weakref.finalize(self, _close_in, os.getpid(), self._own)
            return self._own

    async def async_client(self) -> httpx.AsyncClient:
        """Return the caller's client, or our own for the running event loop."""
        if self._given_async:
            return self._given_async
        self._leave_to_the_parent()
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._loops:
                self._loops[loop] = _LoopClient(httpx.AsyncClient(limits=self._limits))
            kept = self._loops[loop]
        await kept.close_with_the_loop()
        return kept.client

    def close(self) -> None:
        """Close our sync client; the next call makes a new one."""
        with self._lock:
            client, self._own = self._own, None
        if client:
            client.close()

    async def aclose(self) -> None:
        """Close our async client of the running event loop, and the sync one."""
        self.close()
        kept = self._loops.pop(asyncio.get_running_loop(), None)
        if kept:
            await kept.client.aclose()


def _close_in(process: int, client: httpx.Client) -> None:
    if process == os.getpid():
        client.close()


class _LoopClient:
    """An AsyncClient that closes with its event loop.

    Before a loop ends it closes every async generator that it has seen started (`loop.shutdown_asyncgens`, which
    `asyncio.run` calls). The generator here exists only for that: a closed loop can close no connection any more.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._closing: AsyncGenerator[None, None] | None = None

    async def close_with_the_loop(self) -> None:
        if self._closing is None:
            self._closing = self._wait_then_close()
            await anext(self._closing)

    async def _wait_then_close(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.client.aclose()
