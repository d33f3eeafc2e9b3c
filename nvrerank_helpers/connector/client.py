"""A query and its passages in, one logit for each passage out: batches over HTTP, sync and async."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Self

import httpx
from pydantic import SecretStr
from pydantic_core import to_json

from .background import await_on_loop, run_on_loop
from .endpoints import Endpoint
from .errors import RequestRefused, RerankError
from .exchange import ClientSettings, Exchange
from .given_clients import AsyncClientTransport, SyncClientTransport, check_client
from .models import CATALOG, MAX_PASSAGES
from .protocol import BatchScores, Passage, RankResult, Truncate, join_answers, parse_answer, split
from .rate_limit import RateLimit
from .score_cache import ScoreCache, hash_pairs, rank_missing, store_scores
from .service_facts import ServiceFacts
from .transport import AiohttpTransport, Transport

TIMEOUT, DEADLINE, MAX_RETRIES = 60.0, 120.0, 3  # a NIM itself gives up a request after 120 s


class ClosesConnections(ABC):
    """Closes its connections at the end of a `with` or `async with` block."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections; a later call opens new ones."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections; the async twin of `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class RankingClient(ClosesConnections):
    """Ask a reranking service, in batches and with retries.

    Args:
        endpoint: Where to post, from `resolve_endpoint()`.
        model: Id of the model; None takes the first that the service lists, which asks it at once. A model that your
            own service does not list is refused at the first call.
        api_key: Key to send, or None to send none.
        max_batch_size: Passages of one request, at least 1 and at most what the model takes (512).

    The other settings are those of `NVIDIARerank`. A wait that the service asks for is obeyed up to 30 s.

    Raises:
        ValueError: A client of the wrong kind, or a closed one.

    Example:
        >>> from nvrerank_helpers.connector import RankingClient, resolve_endpoint
        >>> RankingClient(resolve_endpoint("localhost:1976", None), "my-model").model
        'my-model'
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
        rate_limit: RateLimit | None = None,
        score_cache: ScoreCache | None = None,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
    ) -> None:
        check_client(http_client, "http_client", wants_async=False)
        check_client(async_http_client, "async_http_client", wants_async=True)
        self.endpoint = endpoint
        self.max_batch_size = max_batch_size
        self.max_concurrency = max_concurrency
        self._settings = ClientSettings(endpoint, api_key, timeout, max_retries, deadline, rate_limit)
        self._score_cache = score_cache
        self._own = AiohttpTransport()
        self._transport: Transport = SyncClientTransport(http_client) if http_client else self._own
        self._async_transport = AsyncClientTransport(async_http_client) if async_http_client else None
        self._facts = ServiceFacts(endpoint)
        self.model = model or ""  # an error while asking for the models names the one that was asked for
        self.alternatives: list[str] = []  # what else could have been meant where no model was named
        if not model:
            self.model, *others = self.model_ids()
            self.alternatives = [other for other in others if self.model not in CATALOG or other in CATALOG]

    def rank(self, query: str, passages: Sequence[Passage], truncate: Truncate | None = "END") -> RankResult:
        """Score every passage against the query.

        Args:
            query: The query, not empty.
            passages: Any number of passages.
            truncate: `END` cuts passages that are too long, `NONE` makes them an error, None sends no choice.

        Returns:
            One logit for each passage, and what the call cost.

        Raises:
            RerankError: The service could not be reached, refused, or answered something else; see `errors`. One
                failing request fails the call; `passages` of the error says which passages it contained.
            ValueError: Images for a `/rerank` address.
        """
        return run_on_loop(self._rank, self._begin(query, passages), query, passages, truncate)

    async def arank(self, query: str, passages: Sequence[Passage], truncate: Truncate | None = "END") -> RankResult:
        """Score every passage against the query; the async twin of `rank`."""
        exchange = self._begin(query, passages, self._async_transport)
        if self._async_transport:  # the caller's client belongs to the caller's event loop
            return await self._rank(exchange, query, passages, truncate)
        return await await_on_loop(self._rank, exchange, query, passages, truncate)

    def model_ids(self) -> list[str]:
        """Return the ids of the models that the service lists, in its order.

        Raises:
            RerankError: The service could not be reached, or its answer is not a list of models.
            ValueError: The endpoint offers no such list; that of the API catalog contains no rerankers.
        """
        if not self.endpoint.listing_urls:
            raise ValueError(f"{self.endpoint.ranking_url} lists no models: name one with `model`.")
        exchange = self._begin()
        return run_on_loop(lambda: exchange.finish(self._facts.list_models(exchange))).model_ids

    def is_ready(self) -> bool | None:
        """Ask once whether the service is ready to rank; None where it has no route for that."""
        if self.endpoint.service_url is None:
            return None
        exchange, url = self._begin(), f"{self.endpoint.service_url}/health/ready"
        status = run_on_loop(lambda: exchange.finish(exchange.get_status(url)))
        return None if status == 404 else status == 200

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        run_on_loop(self._own.aclose)

    async def aclose(self) -> None:
        """Close the connections; the async twin of `close`."""
        await await_on_loop(self._own.aclose)

    def _begin(self, query: str = "", passages: Sequence[Passage] = (), transport: Transport | None = None) -> Exchange:
        if self.endpoint.dialect == "rerank" and any("image" in passage for passage in passages):
            raise ValueError("A /rerank address takes texts only: images need the address of a NIM, which ends in /v1.")
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise RerankError(
                f"The query is not valid Unicode: {error}", hint="Decode it with errors='replace'."
            ) from None
        return Exchange(self._settings, transport or self._transport, self.model)

    async def _rank(
        self, exchange: Exchange, query: str, passages: Sequence[Passage], truncate: Truncate | None
    ) -> RankResult:
        def ask(positions: Sequence[int]) -> Coroutine[Any, Any, RankResult]:
            return self._ask(exchange, query, [passages[position] for position in positions], truncate)

        cache = self._score_cache
        if cache is None:
            ranked = await exchange.finish(self._ask(exchange, query, passages, truncate))
        else:
            keys = hash_pairs(self.endpoint.ranking_url, self.model, query, passages, truncate)
            ranked, fresh = await exchange.finish(rank_missing(cache, keys, ask, exchange.left / 4))
            await store_scores(cache, fresh, exchange.left)
        probabilities = self._facts.are_probabilities(ranked.logits)
        return replace(ranked, seconds=exchange.seconds, probabilities=probabilities)

    async def _ask(
        self, exchange: Exchange, query: str, passages: Sequence[Passage], truncate: Truncate | None
    ) -> RankResult:
        if not passages:
            return RankResult([])
        await self._facts.look(exchange, self.model)
        spoken = self._facts.dialect
        try:
            return await self._send_batches(exchange, query, passages, truncate)
        except RequestRefused as error:
            if not self._facts.learn(error, spoken):
                raise
        return await self._send_batches(exchange, query, passages, truncate)

    async def _send_batches(
        self, exchange: Exchange, query: str, passages: Sequence[Passage], truncate: Truncate | None
    ) -> RankResult:
        dialect = self._facts.dialect  # another call may change it at any time
        batches = split(len(passages), self._facts.batch_size(self.max_batch_size))
        free = asyncio.Semaphore(self.max_concurrency)

        async def send(batch: range) -> tuple[BatchScores, int]:
            content = to_json(dialect.payload(self.model, query, passages[batch.start : batch.stop], truncate))
            async with free:
                try:
                    reply, retries = await exchange.rank(content)
                    return parse_answer(reply.body, len(batch), dialect), retries
                except RerankError as error:
                    error.passages = batch
                    raise

        if len(batches) == 1:  # a task would cost more than it saves
            return join_answers([await send(batches[0])])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(batch)) for batch in batches]
        except BaseExceptionGroup as failed:  # the first failure cancels the others
            raise failed.exceptions[0] from None
        return join_answers([task.result() for task in tasks])
