"""Reranking whole collections on Ray: `rerank` runs a job, and `write_trec` exports its results for trec_eval."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
