"""Keeps the last requests as they came, so that a notebook can show what a client really sends."""

import codecs
import re
import time
from collections import deque
from urllib.parse import quote, unquote

from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.connector import LATER_PATH
from nvrerank_helpers.nim_standin.faults.specs import is_inference

MOST_REQUESTS = 100
MOST_BODY_BYTES = 65_536
"""Of a longer body the beginning is kept; `body_bytes` tells its whole length."""


def _written(character: str) -> str:
    """Match a character as it is, or in a URL's or in JSON's writing."""
    codes = {f"{ord(case):02x}" for case in (character.lower(), character.upper())}
    return "|".join([re.escape(character), *(form + code for code in sorted(codes) for form in ("%", r"\\u00"))])


_KEY = re.compile("(" + "".join(f"(?:{_written(one)})" for one in "nvapi-") + r")[\w%\\-]+", re.IGNORECASE)
# After the word `bearer`, prose goes on with words: a token is long, or has a digit in it.
_BEARER = re.compile(r"(\bbearer)((?:\s|%20|\+)+)(?=\S{0,40}\d|\S{20})(?=\S{8})[\w.~%/+=-]+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_SCHEME = re.compile(r"((?:bearer|basic|digest) +)?.*", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r"([?&]([^=&]*)=)[^&]+")
_MEMBER = re.compile(r'("((?:[^"\\]|\\.){1,64})"\s*:\s*")(?:[^"\\]|\\.)+', re.DOTALL)


class Recorded(BaseModel):
    """One request, its keys replaced by `…`, and how it was answered.

    Its text is what went over the wire: the request line, the headers, an empty line and the body.
    """

    number: int
    """Counts the requests since the service started, from 1."""
    method: str
    target: str
    """The path with its query, as it stood in the request line."""
    http_version: str
    headers: list[tuple[str, str]]
    """In the order in which they came; the server writes their names in lower case."""
    body: str
    """The first 65,536 bytes at most."""
    body_bytes: int
    status: int | None
    """None while there is no answer, or where the connection was reset before one."""
    milliseconds: float | None
    """From the end of the request's headers to the end of its answer; None until then."""

    def __repr__(self) -> str:
        head = [f"{self.method} {self.target} HTTP/{self.http_version}", *map(": ".join, self.headers)]
        more = f"\n[the beginning of {self.body_bytes:,} bytes]" if self.body_bytes > MOST_BODY_BYTES else ""
        return "\n".join([*head, "", self.body]) + more

    __str__ = __repr__


def redacted(text: str) -> str:
    """Replace everything that looks like a key.

    Example:
        >>> redacted('{"key": "nvapi-abc_123"}, sent as Bearer eyJhbGciOiJIUzI1NiJ9.e30')
        '{"key": "nvapi-…"}, sent as Bearer …'
    """
    return _BEARER.sub(r"\1\2…", _KEY.sub(r"\1…", text))


def _without_named_secrets(pairs: re.Pattern[str], text: str) -> str:
    """Replace values whose names tell that they are secret; `pairs` matches what stands before one, and its name."""
    return pairs.sub(lambda pair: f"{pair[1]}…" if _SECRET_NAME.search(unquote(pair[2])) else pair[0], text)


def _redacted_header(name: str, value: str) -> str:
    """Replace the whole value of a header that carries credentials, but for the name of their scheme."""
    if name.lower() in {"authorization", "proxy-authorization"}:
        return _SCHEME.sub(r"\1…", value, count=1)
    return "…" if _SECRET_NAME.search(name) else redacted(value)


class _Entry:
    """A request on its way; when it is over, nothing of it stays but its record."""

    def __init__(self, number: int, scope: Scope) -> None:
        self._number, self._scope = number, scope
        self._body, self._length = bytearray(), 0
        self._began = time.perf_counter()
        self._status: int | None = None
        self._record: Recorded | None = None

    def take(self, chunk: bytes) -> None:
        self._length += len(chunk)
        self._body += chunk[: MOST_BODY_BYTES - len(self._body)]

    def answered(self, status: int) -> None:
        self._status = status

    def finish(self) -> None:
        if self._record is None:
            self._record = self._made((time.perf_counter() - self._began) * 1000)
            self._scope, self._body = {}, bytearray()

    @property
    def record(self) -> Recorded:
        return self._record or self._made(None)

    def _made(self, milliseconds: float | None) -> Recorded:
        scope = self._scope
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        whole = self._length <= MOST_BODY_BYTES  # else the cut may go through a character, which is left out then
        body = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(bytes(self._body), whole)
        return Recorded(
            number=self._number,
            method=scope["method"],
            target=redacted(_without_named_secrets(_PARAMETER, (path + query).decode("latin-1"))),
            http_version=scope["http_version"],
            headers=[(name, _redacted_header(name, value)) for name, value in headers],
            body=redacted(_without_named_secrets(_MEMBER, body)),
            body_bytes=self._length,
            status=self._status,
            milliseconds=milliseconds,
        )


class Records:
    """The last requests, in the order of their arrival.

    Example:
        >>> Records().all()
        []
    """

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque(maxlen=MOST_REQUESTS)
        self._count = 0

    def begin(self, scope: Scope) -> _Entry:
        """Take in a request that has just arrived."""
        self._count += 1
        entry = _Entry(self._count, scope)
        self._entries.append(entry)
        return entry

    def all(self) -> list[Recorded]:
        """Return the requests, those on their way included."""
        return [entry.record for entry in self._entries]

    def clear(self) -> None:
        """Forget them."""
        self._entries.clear()


class Recorder:
    """Pure ASGI middleware that records the requests for ranking, chat and embeddings, and for promised answers.

    To be the outermost one, so that it sees what came and what went. Nothing waits for it: bodies and answers pass
    piece by piece. A key is in memory as long as its request takes, and in no record.

    Args:
        app: The application behind it.
        records: Where the requests are kept.

    Example:
        >>> from fastapi import FastAPI
        >>> app = Recorder(FastAPI(), records=Records())
    """

    def __init__(self, app: ASGIApp, records: Records) -> None:
        self._app = app
        self._records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not (is_inference(scope["path"]) or scope["path"].startswith(LATER_PATH)):
            await self._app(scope, receive, send)
            return
        entry = self._records.begin(scope)

        async def watched_receive() -> Message:
            message = await receive()
            entry.take(message.get("body", b""))
            return message

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.answered(message["status"])
            elif not message.get("more_body", False):
                entry.finish()  # before the client can have the last byte, and ask for the records
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            entry.finish()
