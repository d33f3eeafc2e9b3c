"""A local service that speaks the protocol of an NVIDIA reranking NIM, with a small real relevance model.

Importing this package pulls in the standard library only; the model and the web framework are imported by
the process that serves.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
