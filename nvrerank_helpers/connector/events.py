"""What LlamaIndex hears about a reranking: its start, its end, its cost, and that it failed."""

import logging
from collections.abc import Callable, Iterator
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
from .protocol import RankResult

dispatcher = get_dispatcher(__name__)
logger = logging.getLogger(__name__)


class RerankFailedEvent(BaseEvent):
    """Reranking failed, and the order of the first stage was kept; the message contains no texts."""

    error: str
    message: str
    model_name: str
    nodes: int

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "RerankFailedEvent"


class RerankCostEvent(BaseEvent):
    """What a reranking that was answered cost, as in `RankResult`."""

    tokens: int
    requests: int
    retries: int
    cached: int

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "RerankCostEvent"


def emit_cost(ranked: RankResult) -> None:
    """Emit what a call cost: with several calls at once, `last_call` may be that of another one."""
    if _has_listeners():
        dispatcher.event(
            RerankCostEvent(
                tokens=ranked.tokens, requests=ranked.requests, retries=ranked.retries, cached=ranked.cached
            )
        )


def emit_failure(error: RerankError, model: str, nodes: int) -> None:
    """Emit an event and log a warning: reranking failed, and the order of the first stage was kept."""
    logger.warning("Reranking %d nodes failed, the order of the first stage is kept: %s", nodes, error.summary)
    kind = type(error).__name__
    dispatcher.event(RerankFailedEvent(error=kind, message=error.summary, model_name=model, nodes=nodes))


@contextmanager
def emit_rerank_events(
    model: str,
    top_n: int | None,
    nodes: list[NodeWithScore],
    query_bundle: QueryBundle | None,
    callback_manager: CallbackManager,
) -> Iterator[Callable[[list[NodeWithScore]], None]]:
    """Emit the start and the end of a call, also of one that is empty or fails; yields what takes its result."""
    wanted = len(nodes) if top_n is None else top_n
    result: list[NodeWithScore] = []
    has_listeners = _has_listeners()
    if has_listeners:
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=wanted, model_name=model))
    payload: dict[str, Any] = {
        EventPayload.NODES: nodes,
        EventPayload.MODEL_NAME: model,
        EventPayload.QUERY_STR: query_bundle.query_str if query_bundle else "",
        EventPayload.TOP_K: wanted,
    }
    try:
        with callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield result.extend
            event.on_end(payload={EventPayload.NODES: result})
    finally:
        if has_listeners:
            dispatcher.event(ReRankEndEvent(nodes=result))


def _has_listeners() -> bool:
    """Return whether anyone listens to our events: building them for nobody would cost a twentieth of a quick call."""
    source: Dispatcher | None = dispatcher
    while source:
        if any(not isinstance(handler, NullEventHandler) for handler in source.event_handlers):
            return True
        source = source.parent if source.propagate else None
    return False
