"""One stand-in for all tests of clients that live apart from the project."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from standin_child import StandIn, running


@pytest.fixture(scope="session")
def process() -> Iterator[StandIn]:
    with running() as standin:
        yield standin


@pytest.fixture
def standin(process: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Return the stand-in as a NIM 1.10, with no requests so far, in an environment without keys and proxies."""
    for name in ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    process.clear()
    return process


@pytest.fixture(scope="session")
def own_answer(process: StandIn) -> list[tuple[int, float]]:
    return process.rank()


@pytest.fixture
def catalog(standin: StandIn) -> Iterator[StandIn]:
    """Return the stand-in as it plays NVIDIA's API catalog."""
    with standin.behaviour("catalog"):
        yield standin


@pytest.fixture
def key() -> str:
    """Return a key that no other test uses: the stand-in counts the requests of a minute by key."""
    return f"nvapi-{uuid4()}"
