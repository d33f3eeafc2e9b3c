"""The small model that the course contains: weights, tokenizer, encoder, and vectors kept between runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
