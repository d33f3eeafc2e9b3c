"""The pytest plugin of `make upstream`: it marks the tests that differences.toml lists as expected failures."""

import tomllib
from pathlib import Path

import pytest

DIFFERENCES = Path(__file__).parent / "differences.toml"
MOST_DELIBERATE = 6  # a class that differs in more tests is not a drop-in


def find_reason(test: str, listed: dict[str, str]) -> str | None:
    """Return why a test such as `test_truncate.py::test_truncate_passed[None]` is listed; None if it isn't.

    An entry without parameters means the test with any parameters.
    """
    return listed.get(test, listed.get(test.partition("[")[0]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the listed tests.

    A deliberate difference must fail: if it passes, its entry is out of date. A test that fails with LlamaIndex's own
    class too may do either.

    Raises:
        UsageError: More tests are listed as deliberate differences than a drop-in may have.
    """
    listed = tomllib.loads(DIFFERENCES.read_text(encoding="utf-8"))
    deliberate = 0
    for item in items:
        test = f"{item.path.name}::{item.nodeid.partition('::')[2]}"
        if reason := find_reason(test, listed["deliberate"]):
            deliberate += 1
            item.add_marker(pytest.mark.xfail(reason=f"deliberate: {reason}", strict=True))
        elif reason := find_reason(test, listed["fails-upstream"]):
            item.add_marker(pytest.mark.xfail(reason=f"fails with LlamaIndex's class too: {reason}", strict=False))
    if deliberate > MOST_DELIBERATE:
        raise pytest.UsageError(f"{deliberate} tests differ deliberately; at most {MOST_DELIBERATE} may.")
