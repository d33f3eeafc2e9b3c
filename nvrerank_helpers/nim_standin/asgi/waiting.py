"""Work that ends when nobody waits for it any more."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

T = TypeVar("T")


class ClientLeftError(Exception):
    """The client has gone: nobody is left to be told anything."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for an answer only as long as somebody waits for it.

    Args:
        receive: The request's channel, with its body read.
        work: What makes the answer; cancelled when the client goes.

    Returns:
        Its result.

    Raises:
        ClientLeftError: The client has gone.
    """
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return await answering
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        raise ClientLeftError
    finally:
        leaving.cancel()
        answering.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_ahead(receive: Receive, most_bytes: int) -> list[Message]:
    """Read a request's body before the application does.

    Args:
        receive: The request's channel.
        most_bytes: Where to stop, for whoever reads on to refuse it.

    Returns:
        The messages, for `replayed`; the last one has `more_body` only where the body is longer.

    Raises:
        ClientDisconnect: The client has gone.
    """
    messages: list[Message] = []
    length = 0
    while not messages or (messages[-1].get("more_body", False) and length <= most_bytes):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        length += len(message.get("body", b""))
        messages.append(message)
    return messages


def replayed(messages: Iterable[Message], receive: Receive) -> Receive:
    """Return a channel that gives messages that were read already, and then those that come."""
    waiting = deque(messages)

    async def receive_again() -> Message:
        return waiting.popleft() if waiting else await receive()

    return receive_again
