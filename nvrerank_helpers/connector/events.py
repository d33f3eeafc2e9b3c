"""What LlamaIndex is told of a reranking: its start, its end, and that it failed."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.dispatcher import Dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle

from .errors import RerankError
from .protocol import Ranked

dispatcher = get_dispatcher(__name__)
logger = logging.getLogger(__name__)


class RerankFailedEvent(BaseEvent):
    """Reranking failed, and the order of the first stage was kept.

    Attributes:
        error: Class of the error, such as `RateLimited`.
        message: What happened and what to do, without the texts and without the service's own words.
        model_name: Id of the model.
        nodes: How many nodes were to be reranked.
    """

    error: str
    message: str
    model_name: str
    nodes: int

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "RerankFailedEvent"


class RerankCostEvent(BaseEvent):
    """A reranking was answered, and this is what it cost.

    Attributes:
        tokens: Tokens that the service counted, 0 where it does not say.
        requests: Requests sent, retries not counted.
        retries: Requests that had to be sent again.
        cached: How many scores came from a cache.
    """

    tokens: int
    requests: int
    retries: int
    cached: int

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "RerankCostEvent"


def tell_of_cost(ranked: Ranked) -> None:
    """Say in an event what a call cost: with several calls at once `last_call` may be that of another one.

    Args:
        ranked: What the call brought.
    """
    if _is_heard():
        dispatcher.event(
            RerankCostEvent(
                tokens=ranked.tokens, requests=ranked.requests, retries=ranked.retries, cached=ranked.cached
            )
        )


def tell_of_failure(error: RerankError, model: str, nodes: int) -> None:
    """Say in an event and in the log that the order of the first stage was kept.

    Args:
        error: Why it was kept.
        model: Id of the model.
        nodes: How many nodes were to be reranked.
    """
    logger.warning("Reranking %d nodes failed, the order of the first stage is kept: %s", nodes, error.summary)
    kind = type(error).__name__
    dispatcher.event(RerankFailedEvent(error=kind, message=error.summary, model_name=model, nodes=nodes))


@contextmanager
def reported(
    model: str,
    top_n: int,
    nodes: list[NodeWithScore],
    query_bundle: QueryBundle | None,
    callback_manager: CallbackManager,
) -> Iterator[list[NodeWithScore]]:
    """Tell LlamaIndex of the start and the end of a call, also of one that is empty or fails.

    Args:
        model: Id of the model.
        top_n: How many nodes are wanted.
        nodes: The nodes that came in.
        query_bundle: The query.
        callback_manager: Who is told beside the dispatcher.

    Yields:
        The list that takes the results.
    """
    results: list[NodeWithScore] = []
    heard = _is_heard()
    if heard:
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=top_n, model_name=model))
    payload: dict[str, Any] = {
        EventPayload.NODES: nodes,
        EventPayload.MODEL_NAME: model,
        EventPayload.QUERY_STR: query_bundle.query_str if query_bundle else "",
        EventPayload.TOP_K: top_n,
    }
    try:
        with callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield results
            event.on_end(payload={EventPayload.NODES: results})
    finally:
        if heard:
            dispatcher.event(ReRankEndEvent(nodes=results))


def _is_heard() -> bool:
    """Tell whether anyone listens to our events: building them for nobody would cost a twentieth of a quick call."""
    source: Dispatcher | None = dispatcher
    while source:
        if any(not isinstance(handler, NullEventHandler) for handler in source.event_handlers):
            return True
        source = source.parent if source.propagate else None
    return False
