"""Complete HTTP responses as data, for code that holds a response back or changes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin.profiles import ErrorResponse

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class BufferedResponse:
    """A complete response; header names are in lower case."""

    status: int
    headers: Sequence[Header]
    body: bytes = b""

    def with_body(self, body: bytes, content_type: bytes | None = None) -> "BufferedResponse":
        """Replace the body and the headers that describe it.

        Example:
            >>> BufferedResponse(200, [(b"content-length", b"9")]).with_body(b"{}").headers
            [(b'content-length', b'2')]
        """
        new = {b"content-length": b"%d" % len(body)} | ({b"content-type": content_type} if content_type else {})
        others = [(name, value) for name, value in self.headers if name not in new]
        return replace(self, headers=[*others, *new.items()], body=body)

    def to_starlette(self) -> Response:
        """Return the response as a route returns it."""
        response = Response(self.body, self.status)
        response.raw_headers = list(self.headers)
        return response

    async def start(self, send: Send) -> None:
        """Send the status and the headers."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})

    async def send(self, send: Send) -> None:
        """Send the complete response."""
        await self.start(send)
        await send({"type": "http.response.body", "body": self.body})


def buffer_error(error: ErrorResponse, headers: Sequence[Header] = ()) -> BufferedResponse:
    """Encode an error response, with more headers if given."""
    encoded = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    response = BufferedResponse(error.status, [*encoded, *headers])
    if isinstance(error.body, dict):
        return response.with_body(to_json(error.body), b"application/json")
    return response.with_body((error.body or "").encode(), b"text/plain; charset=utf-8" if error.body else None)


async def buffer_response(app: ASGIApp, scope: Scope, receive: Receive) -> BufferedResponse:
    """Let an application answer a request, and keep its response."""
    status, headers, body = 0, [], bytearray()

    async def keep(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    return BufferedResponse(status, headers, bytes(body))
