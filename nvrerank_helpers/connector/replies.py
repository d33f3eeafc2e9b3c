"""The answer of a service, or why there is none, in one form for every HTTP client."""

import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from .advice import advise
from .endpoints import Endpoint, Route
from .errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable, StatusError, make_status_error
from .proxies import Proxy
from .redaction import printable

HEADERS = {"Accept": "application/json", "Content-Type": "application/json", "Accept-Encoding": "gzip"}
_SSL_SETTING = re.compile(r" ssl:(?:<[^>]*>|\w+)")  # which aiohttp adds to the names of hosts
MAX_BODY = 32 * 1024 * 1024  # bytes of an answer: a thousand passages with their texts sent back take less


class BodyTooLargeError(Exception):
    """An answer is larger than any ranking."""


class BodyEncodingError(Exception):
    """An answer is not what its Content-Encoding says."""


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end and decoded; its headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BodyReader:
    """Collects a body and refuses one that is too large, also where it is packed."""

    def __init__(self, encoding: str = "") -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._encoding = encoding.strip().lower()
        packed = self._encoding not in ("", "identity")
        if packed and self._encoding != "gzip":
            raise BodyEncodingError(f"{printable(encoding, 40)!r} was not asked for")
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None

    def feed(self, part: bytes) -> None:
        """Add a part."""
        if self._unpack:
            try:
                part = self._unpack.decompress(part, MAX_BODY + 1)
            except zlib.error as error:
                raise BodyEncodingError(str(error)) from None
        self._size += len(part)
        if self._size > MAX_BODY:
            raise BodyTooLargeError(f"it is larger than {MAX_BODY // 2**20} MiB")
        self._parts.append(part)

    def finish(self) -> bytes:
        """Return the whole body."""
        if self._unpack and self._size and not self._unpack.eof:
            raise BodyEncodingError("it ends too early")
        return b"".join(self._parts)


async def read_body(parts: AsyncIterator[bytes], encoding: str = "") -> bytes:
    """Read a body to its end."""
    reader = BodyReader(encoding)
    async for part in parts:
        reader.feed(part)
    return reader.finish()


def make_reply_error(reply: Reply) -> StatusError:
    """Turn an answer with an error status into the error to raise; a redirect is one."""
    request_id = reply.headers.get("nvcf-reqid") or reply.headers.get("x-request-id")
    error = make_status_error(reply.status, reply.body, request_id=printable(request_id, 128) if request_id else None)
    if location := reply.headers.get("location"):
        error.args = (f"{error.args[0]}; it redirects to {printable(location)}",)
    return error


def make_transport_error(
    error: BaseException, seconds: float, *, hosted: bool, dialect: Route = "ranking", proxy: Proxy | None = None
) -> RerankError:
    """Turn what an HTTP client raised into the error to raise.

    Classes are recognized by name, so that httpx, httpx2 and aiohttp are treated alike and none is imported for it.

    Example:
        >>> make_transport_error(TimeoutError(), 2, hosted=False).args[0]
        'The reranking service did not answer within 2 seconds'
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    said = _SSL_SETTING.sub("", printable(str(error)))
    # A library may quote a part of the login in the URL of a proxy.
    cause = type(error).__name__ if not said or (proxy and "@" in proxy.url) else said
    if names & {"TimeoutException", "TimeoutError"}:
        return RerankTimeout(f"The reranking service did not answer within {seconds:g} seconds")
    found: RerankError
    if names & {"DecodingError", "BodyEncodingError"}:
        found = InvalidAnswer(f"The service's answer is not what its Content-Encoding says: {cause}")
    elif "BodyTooLargeError" in names:
        found = InvalidAnswer(f"The service's answer cannot be a ranking: {cause}")
    elif _is_malformed(names, cause):
        found = InvalidAnswer(f"The service's answer is not valid HTTP: {cause}")
    else:
        way = f" through the proxy of {proxy}" if proxy else ""
        found = ServiceUnreachable(f"The reranking service could not be reached{way}: {cause}")
    found.hint = advise(
        found, Endpoint("", hosted=hosted, dialect=dialect), said or cause, str(proxy) if proxy else None
    )
    return found


def _is_malformed(names: set[str], cause: str) -> bool:
    """Return whether an answer came that isn't HTTP; one that merely breaks off may come whole the next time."""
    if "RemoteProtocolError" in names:
        return "disconnected" not in cause and "closed connection" not in cause
    return "ClientResponseError" in names and "ClientHttpProxyError" not in names
