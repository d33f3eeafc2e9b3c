"""Runs and judgments to measures, paired tests, pools, latency and charts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
