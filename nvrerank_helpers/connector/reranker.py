"""`NVIDIARerank`: takes retrieved nodes and returns the best of them in a better order."""

import os
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import httpx
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import SecretStr
from pydantic.json_schema import SkipJsonSchema

from .client import DEADLINE, MAX_RETRIES, TIMEOUT, ClosesConnections, RankingClient
from .endpoints import ADDRESS_VARIABLE, Endpoint, resolve_endpoint
from .errors import RerankError
from .events import dispatcher, emit_cost, emit_failure, emit_rerank_events
from .health import HealthReport, check_service
from .keys import find_key, select_key
from .models import CATALOG, MAX_PASSAGES, HostedModel, check_status, find_model
from .nodes import Candidates, apply_order, check_arguments, in_first_stage_order, mark_skipped, to_candidates
from .protocol import RankResult, Truncate, argsort_descending, to_scores
from .rate_limit import RateLimit
from .score_cache import ScoreCache

# When one of the other fields is assigned, the client is made anew.
OWN_FIELDS = {"top_n", "metadata_mode", "score_transform", "sigmoid_scale", "min_score", "on_failure"}


class NVIDIARerank(ClosesConnections, BaseNodePostprocessor):
    """Put retrieved nodes into the order in which an NVIDIA reranking model sees them, and keep the best.

    A drop-in for LlamaIndex's class of this name, for NVIDIA's API catalog and for your own NIM, sync and async. All
    settings but the keys and the clients can be assigned later.

    Args:
        model: Id of the model. None takes the catalog's current model, or the first that your own service lists.
        nvidia_api_key: The key; wins over `api_key`, which wins over the environment's `NVIDIA_API_KEY`. A key from
            the environment goes to NVIDIA's catalog only, a key given here also to the host of `base_url`.
        api_key: Another name for the same.
        base_url: Address of a NIM, such as `http://localhost:1976/v1`, or of a `/rerank` route of vLLM, Text
            Embeddings Inference, Infinity, LiteLLM or Cohere. None takes the environment's `NVIDIA_BASE_URL`, and
            without that the API catalog.
        http_client: Your own `httpx.Client` (or httpx2's), with its proxies and certificates.
        async_http_client: Your own `httpx.AsyncClient`, for the async methods; without it they use `http_client`.
        allow_retired: Ask the API catalog also for a model that is known to be gone.
        top_n: How many nodes to return; None returns all, 0 none (and asks nothing).
        max_batch_size: Passages of one request, 1 to 512; more nodes are sent as several requests.
        max_concurrency: Requests in flight at once.
        truncate: `END` cuts passages that are too long for the model, `NONE` makes them an error, None sends neither.
        metadata_mode: Which metadata comes before the text that is sent, as in the rest of LlamaIndex.
        score_transform: None gives the raw logit as score, `sigmoid` a number from 0 to 1.
        sigmoid_scale: What the logit is divided by before the sigmoid; NVIDIA's RAG blueprint takes 10.
        min_score: Nodes with a lower score (after the transform), or without one, are left out.
        timeout: Seconds for connecting and for each wait for data.
        max_retries: How often a request is sent again after a connection error, a timeout, or a status that passes.
        deadline: Seconds for a whole call, retries and waits included.
        on_failure: `raise` raises every `RerankError` of a call. `keep_order` returns the first `top_n` nodes in the
            order and with the scores of the first stage, to which `min_score` is not applied; the error's class is in
            their metadata as `rerank_failed`, the error in `last_failure`, and a `RerankFailedEvent` and a warning in
            the log report it. A wrong argument raises all the same, and so does the constructor.
        score_cache: Keeps scores, so that no pair of query and passage is sent twice: a `DiskCache`, a `MemoryCache`,
            or your own `ScoreCache`.
        rate_limit: A `RateLimit`, which several rerankers may share; the wait for it counts towards the deadline.

    Returns:
        `postprocess_nodes` and `apostprocess_nodes` return new `NodeWithScore`, best first. Their nodes are copies with
        `first_stage_rank` and `first_stage_score` in the metadata. A node that cannot be ranked (no text, an image
        that cannot be sent) comes last, with score None.

    Raises:
        ValueError: An argument is wrong, the API catalog is asked without a key, or no query was given.
        ModelRetired: The API catalog no longer serves the model.
        RerankError: The service could not be reached, refused, or answered something else; see `errors`.

    Example:
        >>> reranker = NVIDIARerank(top_n=4, base_url="http://localhost:1976/v1", model="my-model")
        >>> reranker.postprocess_nodes([], query_str="which way should I go?")
        []
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
    score_cache: SkipJsonSchema[ScoreCache | None] = Field(default=None, exclude=True)
    rate_limit: SkipJsonSchema[RateLimit | None] = Field(default=None, exclude=True)
    allow_retired: bool = Field(default=False)
    _given_key: SecretStr | None = PrivateAttr(default=None)
    _http_clients: tuple[httpx.Client | None, httpx.AsyncClient | None] = PrivateAttr(default=(None, None))
    _client: RankingClient = PrivateAttr()
    _last_call: RankResult | None = PrivateAttr(default=None)
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
        name = "base_url"
        if not base_url and (base_url := os.environ.get(ADDRESS_VARIABLE, "").strip() or None):
            name = f"base_url in {ADDRESS_VARIABLE}"
        target = resolve_endpoint(base_url, model, name=name)
        super().__init__(model=target.model, base_url=base_url, **kwargs)  # type: ignore[call-arg]
        self._given_key = find_key(nvidia_api_key or api_key, {})
        self._http_clients = (http_client, async_http_client)
        self._make_client(target)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a checked value; a key never follows to another address."""
        if name == "base_url" and value != self.base_url:
            self._given_key = None
        super().__setattr__(name, value)
        if name in type(self).model_fields and name not in OWN_FIELDS:
            self._make_client(resolve_endpoint(self.base_url, self.model))

    def _make_client(self, target: Endpoint) -> None:
        if target.in_catalog and not self.allow_retired:
            check_status(self.model)
        self._client = RankingClient(
            target,
            self.model,
            api_key=select_key(target, self._given_key),
            max_batch_size=min(self.max_batch_size, find_model(self.model).passage_limit),
            max_concurrency=self.max_concurrency,
            timeout=self.timeout,
            max_retries=self.max_retries,
            deadline=self.deadline,
            rate_limit=self.rate_limit,
            score_cache=self.score_cache,
            http_client=self._http_clients[0],
            async_http_client=self._http_clients[1],
        )
        if target.dialect == "rerank" and self.truncate == "NONE":
            warnings.warn("truncate='NONE' is known to vLLM and Text Embeddings Inference only.", stacklevel=3)
        if not self.model and self._client.alternatives:
            others = ", ".join(self._client.alternatives[:3])
            warnings.warn(
                f"Default model is set as: {self._client.model}. The service also has {others}.", stacklevel=3
            )
        super().__setattr__("model", self._client.model)

    @property
    def last_call(self) -> RankResult | None:
        """What the last answered call on this object cost: tokens, requests, seconds; None before it."""
        return self._last_call

    @property
    def last_failure(self) -> RerankError | None:
        """Why the last call kept the first stage's order; None if it was reranked."""
        return self._last_failure

    @property
    def available_models(self) -> list[HostedModel]:
        """The models that the service lists, or those of the API catalog that aren't retired."""
        if self._client.endpoint.listing_urls:
            return [find_model(id_) for id_ in self._client.model_ids()]
        return [model for model in CATALOG.values() if model.status != "retired"]

    def check(self) -> HealthReport:
        """Check the service step by step: ready, model served, a tiny ranking in the right order."""
        return check_service(self._client)

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections; the async twin of `close`."""
        await self._client.aclose()

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings without the key and without anything that is open."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "callback_manager"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Construct anew; a key comes from the environment of the process that unpickles."""
        self.__init__(**state)  # type: ignore[misc]

    def __copy__(self) -> Self:
        """Return another with the same settings, key and clients, and with separate connections."""
        return type(self)(
            api_key=self._given_key,
            http_client=self._http_clients[0],
            async_http_client=self._http_clients[1],
            callback_manager=self.callback_manager,
            **self.__getstate__(),
        )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Do as `copy`: everything deeper may be shared."""
        return self.__copy__()

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores with a serialized postprocessor."""
        return "NVIDIARerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        check_arguments(nodes, query_bundle)
        with emit_rerank_events(self.model, self.top_n, nodes, query_bundle, self.callback_manager) as report:
            query, candidates = self._to_request(nodes, query_bundle)
            try:
                ranked = self._client.rank(query, candidates.passages, self.truncate)
            except RerankError as error:
                best = self._handle_failure(nodes, candidates, error)
            else:
                best = self._apply(nodes, candidates, ranked)
            report(best)
        return best

    @dispatcher.span  # LlamaIndex makes a span of the sync twin on its own, and none of this one
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        check_arguments(nodes, query_bundle)
        with emit_rerank_events(self.model, self.top_n, nodes, query_bundle, self.callback_manager) as report:
            query, candidates = self._to_request(nodes, query_bundle)
            try:
                ranked = await self._client.arank(query, candidates.passages, self.truncate)
            except RerankError as error:
                best = self._handle_failure(nodes, candidates, error)
            else:
                best = self._apply(nodes, candidates, ranked)
            report(best)
        return best

    def _to_request(self, nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> tuple[str, Candidates]:
        """Return the query and what is sent of the nodes (nothing if `top_n` is 0)."""
        query = query_bundle.query_str if query_bundle else ""
        if not query.strip():
            raise ValueError("Reranking needs a query: pass query_str or query_bundle, and not an empty one.")
        takes_images = False if self._client.endpoint.dialect == "rerank" else find_model(self.model).images
        wanted = nodes if self.top_n != 0 else []
        return query, to_candidates(wanted, self.metadata_mode, takes_images=takes_images)

    def _apply(self, nodes: Sequence[NodeWithScore], candidates: Candidates, ranked: RankResult) -> list[NodeWithScore]:
        """Return the best nodes in the order of their scores, and after them those that could not be ranked."""
        self._last_failure = None
        if candidates.passages:
            self._last_call = ranked
            emit_cost(ranked)
        scores = to_scores(ranked, self.score_transform, self.sigmoid_scale)
        order = [(candidates.positions[place], scores[place]) for place in argsort_descending(ranked.logits)]
        if self.min_score is not None:
            return apply_order(nodes, [pair for pair in order if pair[1] >= self.min_score][: self.top_n])
        return (apply_order(nodes, order[: self.top_n]) + mark_skipped(nodes, candidates.skipped))[: self.top_n]

    def _handle_failure(
        self, nodes: Sequence[NodeWithScore], candidates: Candidates, error: RerankError
    ) -> list[NodeWithScore]:
        """Add the node ids to the error, then raise it or keep the first stage's order, as `on_failure` says."""
        error.node_ids = [nodes[candidates.positions[place]].node_id for place in error.passages or ()]
        if self.on_failure == "raise":
            raise error
        self._last_failure = error.detach()
        emit_failure(error, self.model, len(nodes))
        return in_first_stage_order(nodes, self.top_n, error)
