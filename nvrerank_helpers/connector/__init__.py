"""Rerank retrieved nodes with NVIDIA's models in LlamaIndex. This folder works on its own: copy it, or install it.

`__init__.pyi` tells type checkers where each name lives; this file imports it when it is first asked for, since most
of them load LlamaIndex or an HTTP client.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "client": ["RankingClient"],
    "disk_cache": ["DiskCache"],
    "endpoints": ["Endpoint", "endpoint"],
    "errors": [
        *["CacheError", "InvalidAnswer", "RerankError", "RerankTimeout", "ServiceUnreachable"],
        *["StatusError", "Forbidden", "ModelRetired", "NotFound", "Overloaded", "PassageTooLong", "PaymentRequired"],
        *["RateLimited", "RequestRefused", "ServerError", "TooManyPassages", "Unauthorized", "status_error"],
    ],
    "events": ["RerankCostEvent", "RerankFailedEvent"],
    "health": ["Report", "Step", "check", "wait_until_ready"],
    "memory_cache": ["MemoryCache"],
    "models": ["CATALOG", "CATALOG_ADDRESS", "DEFAULT_MODEL", "HostedModel"],
    "nodes": ["annotated"],
    "protocol": ["Passage", "Ranked", "sigmoid"],
    "rate_limit": ["RateLimit"],
    "reranker": ["NVIDIARerank"],
    "score_cache": ["ScoreCache"],
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
