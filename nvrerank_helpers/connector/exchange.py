"""One call of a public method: its requests, its deadline, and its errors."""

import asyncio
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import SecretStr

from .advice import advise
from .endpoints import Endpoint
from .errors import InvalidAnswer, RerankError, RerankTimeout
from .proxies import find_proxy
from .rate_limit import RateLimit
from .redaction import printable
from .replies import Reply, make_reply_error, make_transport_error
from .retries import PASSING_STATUS, send_with_retries
from .transport import Transport

PROXY_STATUS = {403, 407, 502, 503, 504}  # what proxies answer themselves
POLLING_PAUSE = 0.1  # seconds between two questions whether a deferred answer is there
REQUEST_ID = re.compile(r"[\w-]{1,128}")

T = TypeVar("T")


@dataclass(frozen=True)
class ClientSettings:
    """What all calls of a client share; see `RankingClient`."""

    endpoint: Endpoint
    key: SecretStr | None
    timeout: float
    max_retries: int
    deadline: float
    rate_limit: RateLimit | None


class Exchange:
    """The requests of one call. They, their retries and every wait between them share one deadline."""

    def __init__(self, settings: ClientSettings, transport: Transport, model: str) -> None:
        self._settings, self._transport, self._model = settings, transport, model
        self._started = time.monotonic()
        self._ends = self._started + settings.deadline
        self._last = ""

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._ends - time.monotonic())

    async def finish(self, work: Awaitable[T]) -> T:
        """Await the work of the call.

        Raises:
            RerankError: Whatever went wrong, the deadline included; it names model and address and hides the key.
        """
        try:
            async with asyncio.timeout(self.left):
                return await work
        except TimeoutError:
            seconds = self._settings.deadline
            error: RerankError = RerankTimeout(f"The call was not over at its deadline of {seconds:g} seconds")
        except RerankError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 (nothing else leaves a call)
            error = RerankError(f"Reranking failed: {type(raised).__name__}: {printable(str(raised))}")
        # Without its traceback: the frames below hold what was sent and answered.
        raise self._explain(error).with_traceback(None) from None

    def _explain(self, error: RerankError) -> RerankError:
        endpoint, key = self._settings.endpoint, self._settings.key
        error.model, error.url = printable(self._model, 200), error.url or endpoint.ranking_url
        if error.status is None and self._last and self._last not in error.args[0]:
            error.args = (f"{error.args[0]}; the last try ended with: {self._last}",)
        if error.status is not None:
            error.hint = advise(error, endpoint)
            proxy = find_proxy(error.url) if error.status in PROXY_STATUS else None
            error.hint += f" It may come from the proxy of {proxy}." if proxy else ""
        if error.retry_after is not None and error.retry_after >= 0.5:
            wait = f"Try again in {error.retry_after:.0f} seconds, longer than this call may take."
            error.hint = f"{wait} {error.hint}"
        error.hide(key.get_secret_value() if key else None)
        return error

    async def rank(self, content: bytes) -> tuple[Reply, int]:
        """Post a ranking request and wait for its answer, also for one that is deferred; returns the retries too."""
        url, limit = self._settings.endpoint.ranking_url, self._settings.rate_limit
        reply, retries = await self._send("POST", url, content, limit)
        while later := self._find_polling_url(reply):
            self._last = "the answer was promised for later (202) and not there yet"
            await asyncio.sleep(POLLING_PAUSE)
            reply, more = await self._send("GET", later, None, limit)
            retries += more
        if reply.status != 200:
            raise InvalidAnswer(f"The service answered {reply.status} where 200 was expected.")
        return reply, retries

    async def get(self, url: str, max_retries: int | None = None) -> bytes:
        """Get a list of models, which no rate limit counts."""
        try:
            reply, _ = await self._send("GET", url, None, None, max_retries)
        except RerankError as error:
            error.url = url
            raise
        return reply.body

    async def get_status(self, url: str) -> int:
        """Get a status, whatever it is."""
        return (await self._send_once("GET", url, None)).status

    def _find_polling_url(self, reply: Reply) -> str | None:
        """Return where to ask for a deferred answer, which NVIDIA's catalog announces with status 202."""
        address = self._settings.endpoint.later_url
        if reply.status != 202 or not address:
            return None
        request_id = reply.headers.get("nvcf-reqid", "")
        if not REQUEST_ID.fullmatch(request_id):
            raise InvalidAnswer("The service promised a later answer (202) and did not say under which request id.")
        return f"{address}{request_id}"

    async def _send(
        self, method: str, url: str, content: bytes | None, limit: RateLimit | None, max_retries: int | None = None
    ) -> tuple[Reply, int]:
        async def send() -> Reply:
            if limit:
                with limit.book(self.left) as wait:
                    await asyncio.sleep(wait)
            return await self._send_once(method, url, content)

        retries = self._settings.max_retries if max_retries is None else max_retries
        reply, tried = await send_with_retries(send, retries, self._ends)
        if not 200 <= reply.status < 300:
            raise make_reply_error(reply)
        return reply, tried

    async def _send_once(self, method: str, url: str, content: bytes | None) -> Reply:
        timeout = min(self._settings.timeout, self.left)
        if timeout <= 0:  # which clients read as no limit, or as a connection that failed
            raise TimeoutError
        try:
            reply = await self._transport.send(method, url, content, self._settings.key, timeout)
        except Exception as raised:  # noqa: BLE001 (what HTTP clients raise is a list without an end)
            hosted, dialect = self._settings.endpoint.hosted, self._settings.endpoint.dialect
            error = make_transport_error(raised, timeout, hosted=hosted, dialect=dialect, proxy=find_proxy(url))
        else:
            if reply.status in PASSING_STATUS:
                self._last = f"the service answered {reply.status}"
            return reply
        # Raised here, the error has no context: the library's own holds the request with its key.
        self._last = str(error.args[0])
        raise error
