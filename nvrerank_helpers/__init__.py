"""NVIDIA NIM reranking for LlamaIndex: the connector, and what the course around it needs.

`NVIDIARerank` and the errors work by themselves. The rest (`connect` with its stand-in, `pydocs`, `retrieval`,
`evaluation`, `charts`) belongs to the course and needs the extra `course`.
"""

from typing import TYPE_CHECKING, Any

from nvrerank_helpers.client import RankingClient
from nvrerank_helpers.connect import Service, connect
from nvrerank_helpers.errors import RerankError

if TYPE_CHECKING:
    from nvrerank_helpers.reranker import NVIDIARerank

__version__ = "0.1.0"
__all__ = ["NVIDIARerank", "RankingClient", "RerankError", "Service", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """Import `NVIDIARerank` when it is first asked for: the stand-in starts without LlamaIndex, a second sooner."""
    if name != "NVIDIARerank":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nvrerank_helpers.reranker import NVIDIARerank

    return NVIDIARerank
