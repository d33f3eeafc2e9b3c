"""The only module that talks HTTP: a query and its passages in, one logit a passage out, sync and async."""

import asyncio
import contextvars
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self

import httpx
from httpx_retries import Retry, aretry_request, retry_request
from pydantic import SecretStr

from nvrerank_helpers.catalog import MAX_PASSAGES, Endpoint
from nvrerank_helpers.connections import BearerAuth, Connections
from nvrerank_helpers.errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable
from nvrerank_helpers.protocol import (
    Passage,
    Payload,
    Truncate,
    parsed_answer,
    parsed_model_ids,
    ranking_payload,
    status_error,
)

RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
LONGEST_WAIT = 30.0  # seconds between two tries, also when the service asks for more
TIMEOUT = 60.0  # seconds for each phase of a request; a NIM itself gives up after 120


@dataclass(frozen=True)
class Ranked:
    """What one call to `rank` brought.

    Attributes:
        logits: One raw score a passage, in the order in which the passages were given.
        tokens: Tokens that the service counted, 0 where it does not say.
        requests: Requests sent, retries not counted.
        retries: Requests that had to be sent again.
        seconds: Wall time of the call.
    """

    logits: list[float]
    tokens: int
    requests: int
    retries: int
    seconds: float


class RankingClient:
    """Ask a reranking service, in batches and with retries.

    Args:
        endpoint: Where to post, from `catalog.endpoint`.
        model: Id of the model; None takes the first that the service lists, which asks it at once.
        api_key: Key to send, or None to send none.
        max_batch_size: Passages of one request, at least 1 and at most what the model takes (512).
        max_concurrency: Requests in flight at once.
        timeout: Seconds for connecting, sending and each wait for data; one number for each phase.
        max_retries: How often a request is sent again after a connection error, 408, 429, 500, 502, 503 or 504.
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
        max_retries: int = 3,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.max_batch_size = max_batch_size
        self.max_concurrency = max_concurrency
        self._auth = BearerAuth(api_key) if api_key else None
        self._timeout = timeout
        self._retry = Retry(
            total=max_retries,
            allowed_methods=("GET", "POST"),
            status_forcelist=RETRIED_STATUS,
            backoff_factor=0.25,
            max_backoff_wait=LONGEST_WAIT,
        )
        self._connections = Connections(max_concurrency, http_client, async_http_client)
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
            RerankError: The service could not be reached, refused, or answered something else; see `errors`.
        """
        started = time.perf_counter()
        payloads = self._payloads(query, passages, truncate)
        return _ranked(payloads, self._post_all(payloads), started)

    async def arank(self, query: str, passages: Sequence[Passage], truncate: Truncate | None = "END") -> Ranked:
        """Score every passage against the query; the async twin of `rank`."""
        started = time.perf_counter()
        payloads = self._payloads(query, passages, truncate)
        return _ranked(payloads, await self._apost_all(payloads), started)

    def model_ids(self) -> list[str]:
        """Ask the service which models it serves.

        Returns:
            The ids in the service's order.

        Raises:
            RerankError: The service could not be reached, or its answer is not a list of models.
            ValueError: The endpoint belongs to the API catalog, whose list holds no rerankers.
        """
        if self.endpoint.service_url is None:
            raise ValueError("This endpoint lists no models: name one with `model`.")
        url = f"{self.endpoint.service_url}/models"
        try:
            response = retry_request(self._connections.sync_client(), "GET", url, retry=self._retry, **self._options())
        except httpx.HTTPError as error:
            raise self._transport_error(error, url) from error
        self._raise_for_status(response)
        return parsed_model_ids(response.content)

    def _payloads(self, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> list[Payload]:
        return [
            ranking_payload(self.model, query, passages[start : start + self.max_batch_size], truncate)
            for start in range(0, len(passages), self.max_batch_size)
        ]

    def _post_all(self, payloads: list[Payload]) -> list[httpx.Response]:
        if len(payloads) <= 1:  # a thread pool would cost more than it saves
            return [self._post(payload) for payload in payloads]
        pool = ThreadPoolExecutor(min(self.max_concurrency, len(payloads)), "rerank")
        try:
            futures = [pool.submit(contextvars.copy_context().run, self._post, payload) for payload in payloads]
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [future for future in ended if future.exception()]
            return [future.result() for future in failed or futures]
        finally:  # after a failure, batches that have not started never do, and nobody waits for the others
            pool.shutdown(wait=False, cancel_futures=True)

    async def _apost_all(self, payloads: list[Payload]) -> list[httpx.Response]:
        free = asyncio.Semaphore(self.max_concurrency)

        async def post(payload: Payload) -> httpx.Response:
            async with free:
                return await self._apost(payload)

        tasks = [asyncio.create_task(post(payload)) for payload in payloads]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _post(self, payload: Payload) -> httpx.Response:
        url = self.endpoint.ranking_url
        try:
            response = retry_request(
                self._connections.sync_client(), "POST", url, retry=self._retry, json=payload, **self._options()
            )
        except httpx.HTTPError as error:
            raise self._transport_error(error, url) from error
        return self._raise_for_status(response)

    async def _apost(self, payload: Payload) -> httpx.Response:
        url = self.endpoint.ranking_url
        client = await self._connections.async_client()
        try:
            response = await aretry_request(client, "POST", url, retry=self._retry, json=payload, **self._options())
        except httpx.HTTPError as error:
            raise self._transport_error(error, url) from error
        return self._raise_for_status(response)

    def _options(self) -> dict[str, object]:
        # Without a key of ours the caller's client keeps its own way to authenticate.
        auth = {"auth": self._auth} if self._auth else {}
        # A redirect would be answered at a host that nobody named, so it is reported instead of followed.
        return auth | {"follow_redirects": False, "timeout": self._timeout, "headers": {"Accept": "application/json"}}

    def _raise_for_status(self, response: httpx.Response) -> httpx.Response:
        if response.status_code == httpx.codes.OK:
            return response
        if response.is_success:
            raise InvalidAnswer(f"The service answered {response.status_code} where 200 was expected.")
        request_id = response.headers.get("nvcf-reqid") or response.headers.get("x-request-id")
        url = str(response.request.url)
        raise status_error(response.status_code, response.content, model=self.model, url=url, request_id=request_id)

    def _transport_error(self, error: httpx.HTTPError, url: str) -> RerankError:
        if isinstance(error, httpx.TimeoutException):
            message = f"The reranking service did not answer within {self._timeout:g} seconds"
            return RerankTimeout(message, model=self.model, url=url)
        message = f"The reranking service could not be reached: {error or type(error).__name__}"
        return ServiceUnreachable(message, model=self.model, url=url)

    def close(self) -> None:
        """Close the connections of the sync methods; a later call opens new ones."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections of the async methods in this event loop, and those of the sync ones."""
        await self._connections.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _ranked(payloads: Sequence[Payload], responses: Sequence[httpx.Response], started: float) -> Ranked:
    answers = [
        parsed_answer(response.content, len(payload["passages"]))
        for payload, response in zip(payloads, responses, strict=True)
    ]
    return Ranked(
        logits=[logit for answer in answers for logit in answer.logits],
        tokens=sum(answer.tokens for answer in answers),
        requests=len(responses),
        retries=sum(response.extensions["retry"].attempts_made for response in responses),
        seconds=time.perf_counter() - started,
    )
