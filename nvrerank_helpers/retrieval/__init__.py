"""First-stage retrieval: an embedding, a hybrid retriever over dense vectors and BM25, and persistent stores."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
