"""Keeps the last requests as they arrived, so that a notebook can show what a client really sends."""

import codecs
import re
import time
from collections import deque
from urllib.parse import quote, unquote

from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.connector import LATER_PATH
from nvrerank_helpers.nim_standin.faults.specs import is_inference

MAX_REQUESTS = 100
MAX_RECORDED_BYTES = 65_536
"""Of a longer body only the beginning is kept; `body_bytes` is its whole length."""


def _match_encodings(character: str) -> str:
    """Return a pattern for a character, plain or as a URL or JSON encodes it."""
    codes = {f"{ord(case):02x}" for case in (character.lower(), character.upper())}
    return "|".join([re.escape(character), *(form + code for code in sorted(codes) for form in ("%", r"\\u00"))])


_KEY = re.compile("(" + "".join(f"(?:{_match_encodings(one)})" for one in "nvapi-") + r")[\w%\\-]+", re.IGNORECASE)
# In prose the word `bearer` is followed by words: a token is long, or has a digit in it.
_BEARER = re.compile(r"(\bbearer)((?:\s|%20|\+)+)(?=\S{0,40}\d|\S{20})(?=\S{8})[\w.~%/+=-]+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_SCHEME = re.compile(r"((?:bearer|basic|digest) +)?.*", re.IGNORECASE | re.DOTALL)
# The text before a value, and the value's name inside that.
_PARAMETER = re.compile(r"([?&]([^=&]*)=)[^&]+")
_MEMBER = re.compile(r'("((?:[^"\\]|\\.){1,64})"\s*:\s*")(?:[^"\\]|\\.)+', re.DOTALL)


class RecordedRequest(BaseModel):
    """One request, its keys replaced by `…`, and the status of its response.

    Its text is what went over the wire: the request line, the headers, an empty line and the body.
    """

    number: int
    """Counts the requests since the service started, from 1."""
    method: str
    target: str
    """The path with its query, as in the request line."""
    http_version: str
    headers: list[tuple[str, str]]
    """In the order in which they arrived; the server writes their names in lower case."""
    body: str
    """The first 65,536 bytes at most."""
    body_bytes: int
    status: int | None
    """None while there is no response, or where the connection was reset before one."""
    milliseconds: float | None
    """From the end of the request's headers to the end of its response; None until then."""

    def __repr__(self) -> str:
        head = [f"{self.method} {self.target} HTTP/{self.http_version}", *map(": ".join, self.headers)]
        more = f"\n[the beginning of {self.body_bytes:,} bytes]" if self.body_bytes > MAX_RECORDED_BYTES else ""
        return "\n".join([*head, "", self.body]) + more

    __str__ = __repr__


def redact_keys(text: str) -> str:
    """Replace everything that looks like a key.

    Example:
        >>> redact_keys('{"key": "nvapi-abc_123"}, sent as Bearer eyJhbGciOiJIUzI1NiJ9.e30')
        '{"key": "nvapi-…"}, sent as Bearer …'
    """
    return _BEARER.sub(r"\1\2…", _KEY.sub(r"\1…", text))


def _redact_named(pairs: re.Pattern[str], text: str) -> str:
    """Replace keys, and values whose names sound secret."""
    return redact_keys(
        pairs.sub(lambda pair: f"{pair[1]}…" if _SECRET_NAME.search(unquote(pair[2])) else pair[0], text)
    )


def _redact_header(name: str, value: str) -> str:
    """Replace the whole value of a header with credentials, except for the name of their scheme."""
    if name.lower() in {"authorization", "proxy-authorization"}:
        return _SCHEME.sub(r"\1…", value, count=1)
    return "…" if _SECRET_NAME.search(name) else redact_keys(value)


class _Entry:
    """A request in progress; once it is finished, only its redacted record is kept."""

    def __init__(self, number: int, scope: Scope) -> None:
        self._number, self._scope = number, scope
        self._body, self._length = bytearray(), 0
        self._began = time.perf_counter()
        self._record: RecordedRequest | None = None
        self.status: int | None = None

    def add_body(self, chunk: bytes) -> None:
        self._length += len(chunk)
        self._body += chunk[: MAX_RECORDED_BYTES - len(self._body)]

    def finish(self) -> None:
        if self._record is None:
            self._record = self._build((time.perf_counter() - self._began) * 1000)
            self._scope, self._body = {}, bytearray()

    @property
    def record(self) -> RecordedRequest:
        return self._record or self._build(None)

    def _build(self, milliseconds: float | None) -> RecordedRequest:
        scope = self._scope
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        whole = self._length <= MAX_RECORDED_BYTES  # else the last character may be cut, and is left out
        body = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(bytes(self._body), whole)
        return RecordedRequest(
            number=self._number,
            method=scope["method"],
            target=_redact_named(_PARAMETER, (path + query).decode("latin-1")),
            http_version=scope["http_version"],
            headers=[(name, _redact_header(name, value)) for name, value in headers],
            body=_redact_named(_MEMBER, body),
            body_bytes=self._length,
            status=self.status,
            milliseconds=milliseconds,
        )


class RequestLog:
    """The last requests, in the order of their arrival."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque(maxlen=MAX_REQUESTS)
        self._count = 0

    def begin(self, scope: Scope) -> _Entry:
        """Add a request that has just arrived."""
        self._count += 1
        entry = _Entry(self._count, scope)
        self._entries.append(entry)
        return entry

    def all(self) -> list[RecordedRequest]:
        """Return the requests, including those in progress."""
        return [entry.record for entry in self._entries]

    def clear(self) -> None:
        """Forget all requests so far."""
        self._entries.clear()


class Recorder:
    """Pure ASGI middleware that records the requests for ranking, chat, embeddings and deferred responses.

    It must be the outermost one, to see what arrived and what was sent. Nothing waits for it: bodies and responses
    pass piece by piece. A key stays in memory as long as its request takes, and is in no record.
    """

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not (is_inference(scope["path"]) or scope["path"].startswith(LATER_PATH)):
            await self._app(scope, receive, send)
            return
        entry = self._log.begin(scope)

        async def receive_and_record() -> Message:
            message = await receive()
            entry.add_body(message.get("body", b""))
            return message

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            elif not message.get("more_body", False):
                entry.finish()  # before the client can have the last byte, and ask for the records
            await send(message)

        try:
            await self._app(scope, receive_and_record, send_and_record)
        finally:
            entry.finish()
