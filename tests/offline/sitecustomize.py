"""Runs at the start of every Python that has this folder on PYTHONPATH: kernels, the stand-in, the demo."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import offline_guard

offline_guard.install()

# Python runs one sitecustomize only: run the one that this file hides.
here = Path(__file__).parent
hidden = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if Path(entry) != here])
if hidden and hidden.loader:
    hidden.loader.exec_module(module_from_spec(hidden))
