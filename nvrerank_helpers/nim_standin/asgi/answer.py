"""A whole answer of an ASGI application, as data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.types import Send

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Answer:
    """A whole answer of an ASGI application.

    Attributes:
        status: HTTP status.
        headers: Names in lower case, and values.
        body: The bytes after the headers.
    """

    status: int
    headers: Sequence[Header]
    body: bytes = b""

    def with_body(self, body: bytes, content_type: bytes | None = None) -> "Answer":
        """Exchange the body, and the headers that tell about it.

        Example:
            >>> Answer(200, [(b"content-length", b"9")]).with_body(b"{}").headers
            [(b'content-length', b'2')]
        """
        told = {b"content-length": b"%d" % len(body)} | ({b"content-type": content_type} if content_type else {})
        kept = [(name, value) for name, value in self.headers if name not in told]
        return replace(self, headers=[*kept, *told.items()], body=body)

    async def start(self, send: Send) -> None:
        """Send the status and the headers."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})

    async def send(self, send: Send) -> None:
        """Send the whole answer."""
        await self.start(send)
        await send({"type": "http.response.body", "body": self.body})
