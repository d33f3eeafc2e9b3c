"""Connections that break: a server protocol whose connections an application can reset.

An ASGI application cannot reach the socket it answers on. `ResettableProtocol` puts a function that resets the
connection into the state of each request's scope, which uvicorn hands on to the application.
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
# SO_LINGER on, for 0 seconds: closing the socket sends RST in place of FIN. Windows has two shorts there.
_NO_GOODBYE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

HEADERS_SECONDS = 20
"""How long the headers of a request may take from the connection, or from their own first byte on."""


class ResettableProtocol(H11Protocol):
    """HTTP/1.1 over connections that `reset_connection` can reset, and that close when no headers come.

    For `uvicorn.Config(http=ResettableProtocol)`, which by itself waits for headers for ever.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _RESET: self._reset}, _loop)
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait on if it was a part of the headers."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the headers are complete
            self._stop_watching()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _reset(self) -> None:
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_GOODBYE)
        self.transport.abort()


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Reset the connection of a request: its client sees "connection reset by peer" and no more bytes.

    Args:
        scope: The request's scope.
        receive: The request's channel; it is read until it says that the connection is gone, so that the server does
            not take the missing answer for a mistake.

    Raises:
        ConnectionResetError: There is no socket, as under `httpx.ASGITransport`: this is what the caller in the same
            process gets to see then.
    """
    reset = scope.get("state", {}).get(_RESET)
    if reset is None:
        raise ConnectionResetError("The stand-in was told to reset this connection, which has no socket of its own.")
    reset()
    while (await receive())["type"] != "http.disconnect":
        pass
