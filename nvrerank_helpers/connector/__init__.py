"""Rerank retrieved nodes with NVIDIA's models in LlamaIndex. This folder works on its own: copy it, or install it."""

from importlib import import_module
from typing import Any

_MODULES = {
    "client": ["RankingClient"],
    "disk_cache": ["DiskCache"],
    "errors": [
        "CacheError",
        "Forbidden",
        "InvalidAnswer",
        "ModelRetired",
        "NotFound",
        "Overloaded",
        "PassageTooLong",
        "PaymentRequired",
        "RateLimited",
        "RequestRefused",
        "RerankError",
        "RerankTimeout",
        "ServerError",
        "ServiceUnreachable",
        "StatusError",
        "TooManyPassages",
        "Unauthorized",
        "status_error",
    ],
    "events": ["RerankCostEvent", "RerankFailedEvent"],
    "health": ["Report", "Step", "check", "wait_until_ready"],
    "memory_cache": ["MemoryCache"],
    "models": ["CATALOG", "CATALOG_ADDRESS", "DEFAULT_MODEL", "HostedModel", "endpoint"],
    "nodes": ["annotated"],
    "protocol": ["Passage", "Ranked", "sigmoid"],
    "rate_limit": ["RateLimit"],
    "reranker": ["NVIDIARerank"],
    "score_cache": ["ScoreCache"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605 (a list, which ruff does not see)


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: most of them load LlamaIndex or an HTTP client."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
