"""What is said when an optional part is not installed."""

import tomllib
from pathlib import Path

import pytest

from nvrerank_helpers.extras import ExtraNotInstalled, extra

ROOT = Path(__file__).parents[1]


def test_a_missing_part_is_said_with_its_extra_and_how_to_install_it():
    with (
        pytest.raises(ExtraNotInstalled, match=r"extra `ray`.*not_there.*make extras.*nvrerank-helpers\[ray\]"),
        extra("ray"),
    ):
        import not_there  # noqa: F401


def test_what_is_installed_is_imported():
    with extra("ray"):
        import json
    assert json.dumps(1) == "1"


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), extra("ray"):
        1 / 0  # noqa: B018


def test_the_base_install_needs_only_what_the_connector_imports():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [line.split(">")[0] for line in dependencies] == [
        "llama-index-core",
        "aiohttp",
        "httpx",
        "pydantic",
        "pydantic-core",
        "filetype",
        "lazy-loader",
    ]
