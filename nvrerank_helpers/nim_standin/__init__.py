"""A local service that speaks the protocol of an NVIDIA reranking NIM, with a small but real relevance model.

Importing this package loads only the standard library; the process that serves imports the model and the web framework.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
