"""A server protocol whose connections an application can reset.

An ASGI application cannot reach the socket it answers on. `ResettableProtocol` puts a function that resets the
connection into the state of each request's scope, which uvicorn passes on to the application.
"""

import asyncio
import socket
import struct
import sys
from typing import Any

import h11
from starlette.types import Receive, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_RESET = "stand_in.reset"
# SO_LINGER on, for 0 seconds: closing the socket sends RST instead of FIN. Windows has two shorts there.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

HEADERS_SECONDS = 20
"""How long the headers of a request may take, counted from the connection or from their own first byte."""


class ResettableProtocol(H11Protocol):
    """HTTP/1.1 with connections that `reset_connection` can reset, and that close when no headers arrive.

    For `uvicorn.Config(http=ResettableProtocol)`; uvicorn's own protocol waits for headers forever.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _RESET: self._reset}, _loop)
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the headers."""
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Stop the timer once the headers are complete."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the headers are complete
            self._stop_timer()
        elif self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _reset(self) -> None:
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Reset the connection of a request, so that its client gets "connection reset by peer".

    Without a socket, as under `httpx.ASGITransport`, this raises ConnectionResetError in the caller's own process.
    """
    reset = scope.get("state", {}).get(_RESET)
    if reset is None:
        raise ConnectionResetError("The stand-in was told to reset this connection, and it has no socket.")
    reset()
    # Until the disconnect has been read, the server would report the missing response as an error.
    while (await receive())["type"] != "http.disconnect":
        pass
