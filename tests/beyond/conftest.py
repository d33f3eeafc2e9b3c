"""What needs the extras: run by `make test-extras`, left out where they are not installed."""

import importlib.util

if importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["*"]
