"""Tests that need the extras: `make test-extras` runs them, and pytest collects them only when this folder is named."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent

if importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["*"]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out of a run that does not name it: Ray and PostgreSQL are slow to start, and start once."""
    paths = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in paths) else True
