"""Clients that disconnect, and request bodies that arrive too slowly."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin.asgi.responses import buffer_error
from nvrerank_helpers.nim_standin.profiles import ErrorResponse

T = TypeVar("T")


class _SlowBodyError(Exception):
    pass


class BodyTimeout:
    """Pure ASGI middleware that answers 408 to a body that takes longer than `seconds`, and closes the connection.

    It also ends the request of a client that has disconnected, without an error.
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
            await self._app(scope, self._limit(receive), send)
        except ClientDisconnect:
            return
        except _SlowBodyError:
            message = f"The body of the request did not come within {self._seconds:g} seconds"
            body = {"object": "error", "message": message}
            await buffer_error(ErrorResponse(408, body, {"connection": "close"})).send(send)

    def _limit(self, receive: Receive) -> Receive:
        deadline: float | None = asyncio.get_running_loop().time() + self._seconds

        async def receive_in_time() -> Message:
            nonlocal deadline
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise _SlowBodyError from None
            if not message.get("more_body", False):
                deadline = None  # the next message is the disconnect, which may come at any time
            return message

        return receive_in_time


async def run_until_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """Return the result of `work`, or cancel it and raise ClientDisconnect when the client disconnects.

    The body of the request must have been read from `receive`.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((working, disconnecting), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        raise ClientDisconnect
    finally:
        disconnecting.cancel()
        working.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_ahead(receive: Receive, max_bytes: int) -> list[Message]:
    """Read a request's body before the application does, and return its messages for `replay`.

    A body of more than `max_bytes` is read only in part: its last message has `more_body`.
    """
    messages: list[Message] = []
    length = 0
    while not messages or (messages[-1].get("more_body", False) and length <= max_bytes):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        length += len(message.get("body", b""))
        messages.append(message)
    return messages


def replay(messages: Iterable[Message], receive: Receive) -> Receive:
    """Return a channel that gives `messages` first, and then those from `receive`."""
    waiting = deque(messages)

    async def receive_again() -> Message:
        return waiting.popleft() if waiting else await receive()

    return receive_again
