"""NVIDIA NIM reranking for LlamaIndex: the connector, and what the course around it needs.

`NVIDIARerank` and the errors work by themselves. The rest (`connect` with its stand-in, `pydocs`, `retrieval`,
`evaluation`, `charts`) belongs to the course and needs the extra `course`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nvrerank_helpers.connect import Service, connect
from nvrerank_helpers.connector.errors import RerankError

if TYPE_CHECKING:
    from nvrerank_helpers.connector.client import RankingClient
    from nvrerank_helpers.connector.disk_cache import DiskCache
    from nvrerank_helpers.connector.memory_cache import MemoryCache
    from nvrerank_helpers.connector.rate_limit import RateLimit
    from nvrerank_helpers.connector.reranker import NVIDIARerank

__version__ = "0.1.0"
__all__ = [
    "DiskCache",
    "MemoryCache",
    "NVIDIARerank",
    "RankingClient",
    "RateLimit",
    "RerankError",
    "Service",
    "__version__",
    "connect",
]


_LATER = {
    "DiskCache": "nvrerank_helpers.connector.disk_cache",
    "MemoryCache": "nvrerank_helpers.connector.memory_cache",
    "NVIDIARerank": "nvrerank_helpers.connector.reranker",
    "RankingClient": "nvrerank_helpers.connector.client",
    "RateLimit": "nvrerank_helpers.connector.rate_limit",
}


def __getattr__(name: str) -> Any:
    """Import what brings LlamaIndex or httpx along when it is first asked for: the stand-in starts sooner without."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
