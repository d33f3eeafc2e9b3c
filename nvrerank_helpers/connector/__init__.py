"""Rerank retrieved nodes with NVIDIA's models in LlamaIndex. This folder works on its own: copy it, or install it.

`__init__.pyi` says where each name lives. A name is imported when it is first asked for, since most of them load
LlamaIndex or an HTTP client.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
