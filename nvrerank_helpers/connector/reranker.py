"""`NVIDIARerank`: retrieved nodes in, the best of them in a better order out."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Literal, Self

import httpx
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import SecretStr

from . import score_cache as cache
from .client import DEADLINE, MAX_RETRIES, TIMEOUT, RankingClient
from .connections import Closing
from .errors import RerankError
from .events import dispatcher, reported, tell_of_cost, tell_of_failure
from .health import Report, check
from .keys import find_key, key_for
from .models import (
    ADDRESS_VARIABLE,
    CATALOG,
    MAX_PASSAGES,
    HostedModel,
    check_status,
    default_model,
    endpoint,
    known,
)
from .nodes import kept, passage_of, reranked
from .protocol import Passage, Ranked, Truncate, descending, sigmoid
from .rate_limit import RateLimit

# Fields that the connection is made from: it is made anew when one of them is assigned.
CONNECTION_FIELDS = {
    "model",
    "base_url",
    "max_batch_size",
    "max_concurrency",
    "timeout",
    "max_retries",
    "deadline",
    "on_failure",
    "rate_limit",
    "allow_retired",
}


class NVIDIARerank(Closing, BaseNodePostprocessor):
    """Put retrieved nodes into the order in which an NVIDIA reranking model sees them, and keep the best.

    A drop-in for LlamaIndex's class of this name, for NVIDIA's API catalog and for your own NIM, sync and async.

    Args:
        model: Id of the model. None takes the catalog's current model, or the first that your own NIM serves.
        nvidia_api_key: The key; wins over `api_key`, which wins over the environment's `NVIDIA_API_KEY`. A key from
            the environment goes to NVIDIA's catalog only, a key given here also to the host of `base_url`.
        api_key: Another name for the same.
        base_url: Address of a NIM, such as `http://localhost:1976/v1`. None takes the environment's
            `NVIDIA_BASE_URL`, and without that the API catalog.
        http_client: Your own `httpx.Client`, with its proxies and certificates.
        async_http_client: The same for the async methods.
        allow_retired: Ask the API catalog also for a model that is known to be gone.
        top_n: How many nodes to return; None returns all, 0 none (and asks nothing).
        max_batch_size: Passages of one request, 1 to 512; more nodes are sent as several requests at once.
        max_concurrency: Requests in flight at once.
        truncate: `END` cuts passages that are too long for the model, `NONE` makes them an error, None sends neither.
        metadata_mode: Which metadata stands before the text that is sent, as in the rest of LlamaIndex.
        score_transform: None gives the raw logit as score, `sigmoid` a number from 0 to 1.
        sigmoid_scale: What the logit is divided by before the sigmoid; NVIDIA's RAG blueprint takes 10.
        min_score: Nodes whose score (after the transform) is lower are left out.
        timeout: Seconds for connecting, for sending and for each wait for data.
        max_retries: How often a request is sent again after a connection error, a timeout, 408, 429, 500, 502, 503
            or 504.
        deadline: Seconds for a whole call, retries and waits included.
        on_failure: `raise` raises every `RerankError` of a call. `keep_order` returns the first `top_n` nodes as the
            first stage ranked them, with its scores, to which `min_score` is not applied. They are marked with the
            error's class as `rerank_failed` in the metadata, `last_failure` has the error, and a `RerankFailedEvent`
            and a warning in the log tell of it. A wrong argument raises all the same, and so does the constructor.
        score_cache: Where scores are kept, so that no pair of query and passage is sent twice: a `DiskCache`, a
            `MemoryCache`, or your own; see `cache`.
        rate_limit: A `RateLimit`, which several rerankers may share; the wait for it counts towards the deadline.

    Returns:
        `postprocess_nodes` and `apostprocess_nodes` give new `NodeWithScore`, best first. Their nodes are copies with
        `first_stage_rank` and `first_stage_score` in the metadata; what was passed in stays as it is. `last_call`
        tells what the call cost. A node may be seen instead of read, where the model takes images: see `images`.

    Raises:
        ValueError: An argument is wrong, the API catalog is asked without a key, no query was given, or a node has
            neither text nor image, or an image that the model does not take.
        ModelRetired: The API catalog no longer serves the model.
        RerankError: The service could not be reached, refused, or answered something else; see `errors`.

    Example:
        >>> reranker = NVIDIARerank(top_n=4, base_url="http://localhost:1976/v1")  # doctest: +SKIP
        >>> best = reranker.postprocess_nodes(nodes, query_str="which way should I go?")  # doctest: +SKIP
    """

    model_config = ConfigDict(validate_assignment=True, extra="forbid")

    model: str = Field(default="", description="Id of the reranking model.")
    base_url: str | None = Field(default=None, description="Address of a NIM; None means NVIDIA's API catalog.")
    top_n: Annotated[int, Field(ge=0, strict=True)] | None = Field(default=5, description="How many nodes to return.")
    max_batch_size: int = Field(default=MAX_PASSAGES, ge=1, le=MAX_PASSAGES, strict=True)
    max_concurrency: int = Field(default=8, ge=1, strict=True)
    truncate: Truncate | None = Field(default="END", description="What happens to passages that are too long.")
    metadata_mode: MetadataMode = Field(default=MetadataMode.EMBED)
    score_transform: Literal["sigmoid"] | None = Field(default=None, description="What turns a logit into a score.")
    sigmoid_scale: float = Field(default=1.0, gt=0)
    min_score: float | None = Field(default=None, description="Nodes with a lower score are left out.")
    timeout: float = Field(default=TIMEOUT, gt=0, description="Seconds for each phase of a request.")
    max_retries: int = Field(default=MAX_RETRIES, ge=0, strict=True)
    deadline: float = Field(default=DEADLINE, gt=0, description="Seconds for a whole call.")
    on_failure: Literal["raise", "keep_order"] = Field(default="raise", description="What a failing call does.")
    score_cache: cache.ScoreCache | None = Field(default=None, exclude=True)
    rate_limit: RateLimit | None = Field(default=None, exclude=True)
    allow_retired: bool = Field(default=False)
    _given_key: SecretStr | None = PrivateAttr(default=None)
    _http_clients: tuple[httpx.Client | None, httpx.AsyncClient | None] = PrivateAttr(default=(None, None))
    _client: RankingClient = PrivateAttr()
    _last_call: Ranked | None = PrivateAttr(default=None)
    _last_failure: RerankError | None = PrivateAttr(default=None)

    def __init__(
        self,
        model: str | None = None,
        nvidia_api_key: str | SecretStr | None = None,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        http_client: httpx.Client | None = None,
        async_http_client: httpx.AsyncClient | None = None,
        **kwargs: Any,
    ) -> None:
        base_url = base_url or os.environ.get(ADDRESS_VARIABLE) or None
        super().__init__(model=model or default_model(base_url), base_url=base_url, **kwargs)  # type: ignore[call-arg]
        given = find_key(nvidia_api_key or api_key, {})
        self._given_key = given.secret if given else None
        self._http_clients = (http_client, async_http_client)
        self._connect()

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a checked value; the connection follows its fields, and a key never follows to another address."""
        if name == "base_url" and value != self.base_url:
            self._given_key = None
        super().__setattr__(name, value)
        if name in CONNECTION_FIELDS:
            self._connect()

    def _connect(self) -> None:
        target = endpoint(self.base_url, self.model)
        if target.in_catalog and not self.allow_retired:
            check_status(self.model)
        self._client = RankingClient(
            target,
            self.model,
            api_key=key_for(target, self._given_key),
            max_batch_size=min(self.max_batch_size, known(self.model).passage_limit),
            max_concurrency=self.max_concurrency,
            timeout=self.timeout,
            max_retries=self.max_retries,
            deadline=self.deadline,
            punctual=self.on_failure == "keep_order",
            rate_limit=self.rate_limit,
            http_client=self._http_clients[0],
            async_http_client=self._http_clients[1],
        )
        super().__setattr__("model", self._client.model)

    @property
    def last_call(self) -> Ranked | None:
        """What the call that was answered last on this object cost: tokens, requests, seconds; None before it."""
        return self._last_call

    @property
    def last_failure(self) -> RerankError | None:
        """Why the call that ended last kept the first stage's order; None where it was reranked."""
        return self._last_failure

    @property
    def available_models(self) -> list[HostedModel]:
        """The models that the service offers: those that it lists, or the live ones of the API catalog."""
        if self._client.endpoint.service_url:
            return [known(id_) for id_ in self._client.model_ids()]
        return [model for model in CATALOG.values() if model.status != "retired"]

    def check(self) -> Report:
        """Check the service step by step: ready, model served, a tiny ranking in the right order; see `preflight`."""
        return check(self._client)

    async def acheck(self) -> Report:
        """Check the service without blocking the event loop."""
        return await asyncio.to_thread(self.check)

    def close(self) -> None:
        """Close the connections of the sync calls; a later call opens new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and those of the sync calls."""
        await self._client.aclose()

    def __getstate__(self) -> dict[str, Any]:
        """Keep the settings, and neither the key nor anything that is open."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "callback_manager"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Construct anew: a key comes from the environment of whoever unpickles."""
        self.__init__(**state)  # type: ignore[misc]

    def __copy__(self) -> Self:
        """Make another of the same settings, key and clients, with connections of its own."""
        return type(self)(
            api_key=self._given_key,
            http_client=self._http_clients[0],
            async_http_client=self._http_clients[1],
            callback_manager=self.callback_manager,
            **self.__getstate__(),
        )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Do as `copy`: there is nothing deeper that two of them should not share."""
        return self.__copy__()

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with a serialised postprocessor."""
        return "NVIDIARerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._reported(nodes, query_bundle) as results, self._failing(nodes, results):
            query, passages = self._request(nodes, query_bundle)
            if passages:
                results.extend(self._best(nodes, self._rank(query, passages)))
        return results

    @dispatcher.span  # LlamaIndex makes a span of the sync twin by itself, and none of this one
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        with self._reported(nodes, query_bundle) as results, self._failing(nodes, results):
            query, passages = self._request(nodes, query_bundle)
            if passages:
                results.extend(self._best(nodes, await self._arank(query, passages)))
        return results

    def _request(self, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> tuple[str, list[Passage]]:
        """Return the query and the passages to send; no passages where no answer would be kept."""
        query = query_bundle.query_str if query_bundle else ""
        if not query.strip():
            raise ValueError("Reranking needs a query: pass query_str or query_bundle, and not an empty one.")
        wanted = nodes if self.top_n != 0 else []
        takes_images = known(self.model).images
        return query, [passage_of(item.node, self.metadata_mode, takes_images=takes_images) for item in wanted]

    def _rank(self, query: str, passages: Sequence[Passage]) -> Ranked:
        if self.score_cache is None:
            return self._client.rank(query, passages, self.truncate)
        return cache.rank(self._client, self.score_cache, query, passages, self.truncate)

    async def _arank(self, query: str, passages: Sequence[Passage]) -> Ranked:
        if self.score_cache is None:
            return await self._client.arank(query, passages, self.truncate)
        return await cache.arank(self._client, self.score_cache, query, passages, self.truncate)

    def _best(self, nodes: Sequence[NodeWithScore], ranked: Ranked) -> list[NodeWithScore]:
        self._last_call = ranked
        tell_of_cost(ranked)
        scores, order = ranked.logits, descending(ranked.logits)
        if self.score_transform == "sigmoid":
            scores = [sigmoid(logit, self.sigmoid_scale) for logit in scores]
        if self.min_score is not None:
            order = [position for position in order if scores[position] >= self.min_score]
        return reranked(nodes, scores, order[: self.top_n])

    def _reported(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None
    ) -> AbstractContextManager[list[NodeWithScore]]:
        top_n = len(nodes) if self.top_n is None else self.top_n
        return reported(self.model, top_n, nodes, query_bundle, self.callback_manager)

    @contextmanager
    def _failing(self, nodes: Sequence[NodeWithScore], results: list[NodeWithScore]) -> Iterator[None]:
        """Let a failure name its nodes, and answer it as `on_failure` says."""
        try:
            yield
        except RerankError as error:
            error.node_ids = [nodes[position].node_id for position in error.passages or ()]
            if self.on_failure == "raise":
                raise
            results.extend(kept(nodes, self.top_n, error))
            self._last_failure = error.alone()
            tell_of_failure(error, self.model, len(nodes))
        else:
            self._last_failure = None
