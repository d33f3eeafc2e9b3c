"""Clients that leave, and clients that do not come to the point."""

import asyncio

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin.asgi.answer import Answer
from nvrerank_helpers.nim_standin.asgi.waiting import ClientLeftError


class _SlowBodyError(Exception):
    """The time of a body is over."""


class Hangups:
    """Pure ASGI middleware that ends the request of a client that has left without a word, and gives up slow bodies.

    Args:
        app: The application behind it.
        seconds: How long a body may take; then the answer is 408, and the connection closes.

    Example:
        >>> from fastapi import FastAPI
        >>> app = Hangups(FastAPI(), seconds=120)
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, self._in_time(receive), send)
        except (ClientDisconnect, ClientLeftError):
            return
        except _SlowBodyError:
            message = f"The body of the request did not come within {self._seconds:g} seconds"
            answer = Answer(408, [(b"connection", b"close")])
            body = to_json({"object": "error", "message": message})
            await answer.with_body(body, b"application/json").send(send)

    def _in_time(self, receive: Receive) -> Receive:
        deadline: float | None = asyncio.get_running_loop().time() + self._seconds

        async def receive_in_time() -> Message:
            nonlocal deadline
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _SlowBodyError from None
            if not message.get("more_body", False):
                deadline = None  # what comes now is that the client leaves, whenever that is
            return message

        return receive_in_time
