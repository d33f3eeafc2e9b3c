"""Rerank retrieved nodes with NVIDIA's models in LlamaIndex. This folder works on its own: copy it, or install it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .endpoints import Endpoint, endpoint
from .errors import (
    CacheError,
    Forbidden,
    InvalidAnswer,
    ModelRetired,
    NotFound,
    Overloaded,
    PassageTooLong,
    PaymentRequired,
    RateLimited,
    RequestRefused,
    RerankError,
    RerankTimeout,
    ServerError,
    ServiceUnreachable,
    StatusError,
    TooManyPassages,
    Unauthorized,
    status_error,
)
from .models import CATALOG, CATALOG_ADDRESS, DEFAULT_MODEL, HostedModel
from .rate_limit import RateLimit

if TYPE_CHECKING:
    from .client import RankingClient
    from .disk_cache import DiskCache
    from .events import RerankCostEvent, RerankFailedEvent
    from .health import Report, Step, check, wait_until_ready
    from .memory_cache import MemoryCache
    from .nodes import annotated
    from .protocol import Passage, Ranked, sigmoid
    from .reranker import NVIDIARerank
    from .score_cache import ScoreCache

# What loads more than the standard library is imported when it is first asked for.
_LATER = {
    "RankingClient": "client",
    "DiskCache": "disk_cache",
    "RerankCostEvent": "events",
    "RerankFailedEvent": "events",
    "Report": "health",
    "Step": "health",
    "check": "health",
    "wait_until_ready": "health",
    "MemoryCache": "memory_cache",
    "annotated": "nodes",
    "Passage": "protocol",
    "Ranked": "protocol",
    "sigmoid": "protocol",
    "NVIDIARerank": "reranker",
    "ScoreCache": "score_cache",
}

__all__ = [
    "CATALOG",
    "CATALOG_ADDRESS",
    "DEFAULT_MODEL",
    "CacheError",
    "DiskCache",
    "Endpoint",
    "Forbidden",
    "HostedModel",
    "InvalidAnswer",
    "MemoryCache",
    "ModelRetired",
    "NVIDIARerank",
    "NotFound",
    "Overloaded",
    "Passage",
    "PassageTooLong",
    "PaymentRequired",
    "Ranked",
    "RankingClient",
    "RateLimit",
    "RateLimited",
    "Report",
    "RequestRefused",
    "RerankCostEvent",
    "RerankError",
    "RerankFailedEvent",
    "RerankTimeout",
    "ScoreCache",
    "ServerError",
    "ServiceUnreachable",
    "StatusError",
    "Step",
    "TooManyPassages",
    "Unauthorized",
    "annotated",
    "check",
    "endpoint",
    "sigmoid",
    "status_error",
    "wait_until_ready",
]


def __getattr__(name: str) -> Any:
    """Import a name of `_LATER`."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
