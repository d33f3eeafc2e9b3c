"""The HTTP clients of a `RankingClient`: made when first needed, reused, and closed when their time is over."""

import asyncio
import os
import ssl
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Self

import httpx
from pydantic import SecretStr

from .retries import read_by_the_clock

MOST_IDLE = 100  # connections that wait for the next request
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=MOST_IDLE)


class BearerAuth(httpx.Auth):
    """Put the key into the header at the last moment, so that it stands in no local variable of ours."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header that NVIDIA's services want."""
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class Closing(ABC):
    """What holds connections closes them at the end of its `with` or `async with` block."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections of the sync methods."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Connections:
    """One sync client, and for each event loop an async client for every request in flight.

    A client of its own for each async request is both faster and leaner than one client with a pool: httpcore's pool
    looks at every connection for every request, and counts busy connections among those that it may keep, so that
    under load it closes most of them after one request. The clients are lent out and used again, last in, first out.

    Args:
        http_client: The caller's own client, with its proxies and certificates; it is used as it is and never
            closed here.
        async_http_client: The same for the async methods.

    Example:
        >>> connections = Connections()
        >>> connections.sync_client() is connections.sync_client()
        True
        >>> connections.close()
    """

    def __init__(
        self, http_client: httpx.Client | None = None, async_http_client: httpx.AsyncClient | None = None
    ) -> None:
        self._given = http_client
        self._given_async = async_http_client
        self._inherited: list[object] = []
        self._context: ssl.SSLContext | None = None  # reading certificates takes longer than all the rest of a client
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._own: httpx.Client | None = None
        # An AsyncClient belongs to the event loop of its first request: a later loop needs its own.
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClients] = weakref.WeakKeyDictionary()
        self._process = os.getpid()  # the last, so that no other thread takes what is still the parent's

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
                self._own = httpx.Client(limits=LIMITS, event_hooks={"response": [read_by_the_clock]})
                weakref.finalize(self, _close_in, os.getpid(), self._own)
            return self._own

    @asynccontextmanager
    async def lent_async_client(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Lend the caller's client, or one of our own that nobody else uses until it comes back."""
        if self._given_async:
            yield self._given_async
            return
        self._leave_to_the_parent()
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._loops:
                self._loops[loop] = _LoopClients()
            clients = self._loops[loop]
            self._context = self._context or httpx.create_ssl_context()
        await clients.close_with_the_loop()
        client = clients.idle.pop() if clients.idle else httpx.AsyncClient(verify=self._context)
        try:
            yield client
        finally:
            await clients.take_back(client)

    def close(self) -> None:
        """Close our sync client; the next call makes a new one."""
        with self._lock:
            client, self._own = self._own, None
        if client:
            client.close()

    async def aclose(self) -> None:
        """Close our async clients of the running event loop, and the sync one."""
        self.close()
        clients = self._loops.pop(asyncio.get_running_loop(), None)
        if clients:
            await clients.aclose()


def _close_in(process: int, client: httpx.Client) -> None:
    if process == os.getpid():
        client.close()


class _LoopClients:
    """The async clients of one event loop, which close with it.

    Before a loop ends it closes every async generator that it has seen started (`loop.shutdown_asyncgens`, which
    `asyncio.run` calls). The generator here exists only for that: a closed loop can close no connection any more.
    """

    def __init__(self) -> None:
        self.idle: list[httpx.AsyncClient] = []
        self._open = True
        self._closing: AsyncGenerator[None, None] | None = None

    async def take_back(self, client: httpx.AsyncClient) -> None:
        if self._open and len(self.idle) < MOST_IDLE:
            self.idle.append(client)
        else:
            await client.aclose()

    async def aclose(self) -> None:
        self._open = False
        while self.idle:
            await self.idle.pop().aclose()

    async def close_with_the_loop(self) -> None:
        if self._closing is None:
            self._closing = self._wait_then_close()
            await anext(self._closing)

    async def _wait_then_close(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.aclose()
