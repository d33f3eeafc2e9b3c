"""A query and its passages in, one logit a passage out: batches over HTTP, sync and async."""

import asyncio
import contextvars
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import httpx
from httpx_retries import aretry_request, retry_request
from pydantic import SecretStr
from pydantic_core import to_json

from .connections import BearerAuth, Closing, Connections
from .errors import InvalidAnswer, RerankError, RerankTimeout
from .keys import redact
from .models import MAX_PASSAGES, Endpoint
from .protocol import (
    DIALECTS,
    Answer,
    Batch,
    Passage,
    Ranked,
    Truncate,
    batches,
    joined,
    parsed_answer,
    parsed_model_ids,
)
from .rate_limit import RateLimit
from .responses import content_of, gave_up, transport_error
from .retries import GaveUp, Patience

TIMEOUT, DEADLINE, MAX_RETRIES = 60.0, 120.0, 3  # a NIM itself gives a request up after 120 s
LATER_PAUSE = 0.1  # seconds between two questions whether a later answer is there
GRACE = 0.1  # seconds after the deadline in which a request that times out can tell so by itself
HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}
Request = Future[tuple[Answer, int]] | asyncio.Task[tuple[Answer, int]]
REQUEST_ID = re.compile(r"[\w-]{1,128}")


class RankingClient(Closing):
    """Ask a reranking service, in batches and with retries.

    Args:
        endpoint: Where to post, from `catalog.endpoint`.
        model: Id of the model; None takes the first that the service lists, which asks it at once.
        api_key: Key to send, or None to send none.
        max_batch_size: Passages of one request, at least 1 and at most what the model takes (512).
        max_concurrency: Requests in flight at once.
        timeout: Seconds for connecting, for sending and for each wait for data.
        max_retries: How often a request is sent again after a connection error, a timeout, 408, 429, 500, 502, 503
            or 504.
        deadline: Seconds for a call with all its requests, their retries and the waits between them. `Retry-After`
            is obeyed up to 30 s and within the deadline; a longer wait fails at once.
        punctual: Whether a sync call ends at its deadline also where a service sends its answer byte by byte. Such a
            call runs in a thread; async calls and those of several requests are punctual anyway.
        rate_limit: How many requests may be sent, retries and questions for later answers included. A wait that
            would not fit into the deadline fails at once.
        http_client: The caller's own client, with its proxies and certificates; it is never closed here.
        async_http_client: The same for the async methods.

    Example:
        >>> client = RankingClient(endpoint("localhost:1976", None), "my-model")  # doctest: +SKIP
        >>> client.rank("which way?", [{"text": "two roads diverged"}]).logits  # doctest: +SKIP
        [-1.25]
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str | None = None,
        *,
        api_key: SecretStr | None = None,
        max_batch_size: int = MAX_PASSAGES,
        max_concurrency: int = 8,
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        deadline: float = DEADLINE,
        punctual: bool = False,
        rate_limit: RateLimit | None = None,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._dialect = DIALECTS[endpoint.dialect]
        self.max_batch_size = max_batch_size
        self.max_concurrency = max_concurrency
        self._key = api_key
        self._ranking_url = httpx.URL(endpoint.ranking_url)  # parsed once, and not for every request
        self._timeout, self._max_retries, self._deadline = timeout, max_retries, deadline
        self._punctual, self._rate_limit = punctual, rate_limit
        self._connections = Connections(http_client, async_http_client)
        self._left_behind: set[Future[tuple[Answer, int]]] = set()
        self.model = model or ""  # an error while asking for the models names the one that was asked for
        if not model:
            self.model = self.model_ids()[0]

    def rank(self, query: str, passages: Sequence[Passage], truncate: Truncate | None = "END") -> Ranked:
        """Score every passage against the query.

        Args:
            query: The query, not empty.
            passages: Any number of passages.
            truncate: `END` cuts passages that are too long, `NONE` makes them an error, None sends no choice.

        Returns:
            One logit a passage, and what the call cost.

        Raises:
            RerankError: The service could not be reached, refused, or answered something else; see `errors`. One
                failing request fails the call; `passages` of the error says which passages it held.
        """
        started = time.monotonic()
        parts, ends = self._batches(query, passages, truncate), started + self._deadline
        if not parts or (len(parts) == 1 and not self._punctual):  # a thread pool would cost more than it saves
            return joined([self._rank_batch(part, ends) for part in parts], time.monotonic() - started)
        pool = ThreadPoolExecutor(min(self.max_concurrency, len(parts)), "rerank")
        over = threading.Event()
        futures = [pool.submit(contextvars.copy_context().run, self._rank_batch, part, ends, over) for part in parts]
        try:
            wait(futures, ends + GRACE - time.monotonic(), FIRST_EXCEPTION)
            return joined(self._in_time(futures), time.monotonic() - started)
        finally:  # after a failure no request is begun any more, and only `close` waits for those in flight
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for future in futures:
                self._left_behind.add(future)
                future.add_done_callback(self._left_behind.discard)

    async def arank(self, query: str, passages: Sequence[Passage], truncate: Truncate | None = "END") -> Ranked:
        """Score every passage against the query; the async twin of `rank`."""
        started = time.monotonic()
        ends = started + self._deadline
        free = asyncio.Semaphore(self.max_concurrency)

        async def rank_batch(batch: Batch) -> tuple[Answer, int]:
            async with free:
                return await self._arank_batch(batch, ends)

        tasks = [asyncio.create_task(rank_batch(part)) for part in self._batches(query, passages, truncate)]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=ends + GRACE - time.monotonic(), return_when=FIRST_EXCEPTION)
            return joined(self._in_time(tasks), time.monotonic() - started)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def model_ids(self) -> list[str]:
        """Ask the service which models it serves.

        Returns:
            The ids in the service's order.

        Raises:
            RerankError: The service could not be reached, or its answer is not a list of models.
            ValueError: The endpoint offers no such list; that of the API catalog holds no rerankers.
        """
        if self.endpoint.service_url is None:
            raise ValueError(f"{self.endpoint.ranking_url} lists no models: name one with `model`.")
        url = httpx.URL(f"{self.endpoint.service_url}/models")
        with self._errors(url) as patience:
            return parsed_model_ids(content_of(self._send("GET", url, patience), self._key))

    def is_ready(self) -> bool | None:
        """Ask once whether the service is ready to rank; None where it has no route for that.

        Raises:
            ServiceUnreachable: The service could not be reached.
        """
        if self.endpoint.service_url is None:
            return None
        url = httpx.URL(f"{self.endpoint.service_url}/health/ready")
        with self._errors(url):
            status = self._connections.sync_client().get(url, timeout=self._timeout).status_code
        return None if status == httpx.codes.NOT_FOUND else status == httpx.codes.OK

    def _batches(self, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> list[Batch]:
        return batches(self.model, query, passages, truncate, self.max_batch_size, self._dialect)

    def _rank_batch(self, batch: Batch, ends: float, over: threading.Event | None = None) -> tuple[Answer, int]:
        with self._errors(self._ranking_url, ends, batch.passages, over) as patience:
            response = self._send("POST", self._ranking_url, patience, to_json(batch.payload))
            while later := self._later(response, patience):
                patience.pause(LATER_PAUSE)
                response = self._send("GET", later, patience)
            return self._answer(response, batch), patience.attempts_made

    async def _arank_batch(self, batch: Batch, ends: float) -> tuple[Answer, int]:
        async with self._connections.lent_async_client() as client:
            with self._errors(self._ranking_url, ends, batch.passages) as patience:
                response = await self._asend(client, "POST", self._ranking_url, patience, to_json(batch.payload))
                while later := self._later(response, patience):
                    await asyncio.sleep(LATER_PAUSE)
                    response = await self._asend(client, "GET", later, patience)
                return self._answer(response, batch), patience.attempts_made

    def _send(
        self, method: str, url: httpx.URL | str, patience: Patience, content: bytes | None = None
    ) -> httpx.Response:
        client = self._connections.sync_client()
        patience.begin()
        return retry_request(client, method, url, content=content, **self._options(patience))

    async def _asend(
        self,
        client: httpx.AsyncClient,
        method: str,
        url: httpx.URL | str,
        patience: Patience,
        content: bytes | None = None,
    ) -> httpx.Response:
        await patience.abegin()
        return await aretry_request(client, method, url, content=content, **self._options(patience))

    def _options(self, patience: Patience) -> dict[str, Any]:
        # Without a key of ours the caller's client keeps its own way to authenticate.
        auth = {"auth": BearerAuth(self._key)} if self._key else {}
        return auth | {
            "retry": patience,
            "extensions": {"timeout": patience.request_timeout},
            # A redirect would be answered at a host that nobody named, so it is reported instead of followed.
            "follow_redirects": False,
            "headers": HEADERS,
        }

    def _later(self, response: httpx.Response, patience: Patience) -> str | None:
        """Return where to ask for an answer that is not there yet, as NVIDIA's catalog may say with status 202."""
        request_id: str = response.headers.get("nvcf-reqid", "")
        if response.status_code != httpx.codes.ACCEPTED or not self.endpoint.later_url:
            return None
        if not REQUEST_ID.fullmatch(request_id):
            raise InvalidAnswer("The service promised a later answer (202) and did not say under which request id.")
        if patience.left <= LATER_PAUSE:
            raise RerankTimeout("The answer that the service promised for later (202) did not come in time")
        return f"{self.endpoint.later_url}{request_id}"

    def _answer(self, response: httpx.Response, batch: Batch) -> Answer:
        return parsed_answer(content_of(response, self._key), len(batch.passages), self._dialect)

    @contextmanager
    def _errors(
        self,
        url: httpx.URL,
        ends: float | None = None,
        passages: range | None = None,
        over: threading.Event | None = None,
    ) -> Iterator[Patience]:
        """Give a request its patience, and turn whatever goes wrong into an error of ours that names the address."""
        try:
            try:
                ends = ends or time.monotonic() + self._deadline
                yield Patience(self._max_retries, self._timeout, ends, self._rate_limit, over)
            except GaveUp as end:
                raise gave_up(end, self._key, self._longest, hosted=self.endpoint.hosted) from None
            except httpx.HTTPError as error:
                raise transport_error(error, self._longest, hosted=self.endpoint.hosted) from error
        except RerankError as error:
            error.args = (redact(error.args[0]),)
            error.detail = redact(error.detail) if error.detail else None
            error.model, error.url, error.passages = self.model, str(url), passages
            raise

    @property
    def _longest(self) -> float:
        return min(self._timeout, self._deadline)

    def _in_time(self, requests: Sequence[Request]) -> list[tuple[Answer, int]]:
        """Return what the requests brought, or raise what one of them raised, or that they are not over."""
        ended = [request for request in requests if request.done()]
        failed = [request for request in ended if request.exception()]
        if len(ended) < len(requests) and not failed:
            message = f"The call was not over at its deadline of {self._deadline:g} seconds"
            raise RerankTimeout(message, model=self.model, url=str(self._ranking_url))
        return [request.result() for request in failed or requests]

    def close(self) -> None:
        """Close the connections of the sync methods; a later call opens new ones.

        Requests that a failed call left in flight are waited for, as long as a deadline at the most.
        """
        wait(self._left_behind.copy(), self._deadline)
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections of the async methods in this event loop, and those of the sync ones."""
        await asyncio.to_thread(self.close)
        await self._connections.aclose()
