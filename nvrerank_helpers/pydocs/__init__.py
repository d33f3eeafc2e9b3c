"""The corpus of the course: the documentation inside the reader's own Python, and judged questions about it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
