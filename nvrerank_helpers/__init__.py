"""NVIDIA NIM reranking for LlamaIndex: the connector, and what the course around it needs.

`NVIDIARerank` and the errors work by themselves. The rest (`connect` with its stand-in, `pydocs`, `retrieval`,
`evaluation`, `charts`) belongs to the course: install it with `pip install 'nvrerank-helpers[course]'`.
"""

from nvrerank_helpers.client import RankingClient
from nvrerank_helpers.errors import RerankError
from nvrerank_helpers.reranker import NVIDIARerank

__version__ = "0.1.0"
__all__ = ["NVIDIARerank", "RankingClient", "RerankError", "__version__"]
