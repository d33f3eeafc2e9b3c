"""Reranking of whole collections on Ray: `rerank`, and `write_trec` for those who evaluate with trec_eval."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
