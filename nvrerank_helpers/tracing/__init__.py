"""OpenTelemetry spans of a query, without texts unless you want them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
