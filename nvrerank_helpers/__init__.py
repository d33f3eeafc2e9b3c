"""NVIDIA NIM reranking for LlamaIndex: the connector, and what the course around it needs.

`NVIDIARerank` and the errors work on their own. The rest (`connect` with its stand-in, `pydocs`, `retrieval`,
`evaluation`, `lessons`) belongs to the course and needs the extra `course`.
"""

import lazy_loader

from nvrerank_helpers.connect import connect as connect  # now: later, the module of that name would hide it

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
