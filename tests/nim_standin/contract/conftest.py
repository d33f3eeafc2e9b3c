"""The clients, the service they talk to, and the one place where known defects are marked."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from http_fake import HttpFake, serving

from contract.adapters import CLIENTS, MODEL, Client, Fault, require
from contract.known_defects import KNOWN, NOT_OFFERED

ALL = 10_000
FAILURES = (AssertionError, pytest.fail.Exception, Fault)  # any other exception is a mistake of the test itself

Rerank = Callable[..., list[tuple[int, float]]]


@pytest.fixture(autouse=True, scope="module")
def certificates_are_read_once() -> Iterator[None]:
    """Reading them for every client takes most of the time, and nothing here is https."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(params=CLIENTS, ids=str)
def client(request: pytest.FixtureRequest) -> Client:
    name, test = request.param.name, request.node
    case = test.name.replace(f"[{name}]", "").replace(f"[{name}-", "[")
    require(request.param)
    for key in ((name, case), (name, test.originalname)):
        if key in NOT_OFFERED:
            pytest.skip(f"{name} does not offer this: {NOT_OFFERED[key]}")
        if key in KNOWN:
            test.add_marker(pytest.mark.xfail(reason=f"{name}: {KNOWN[key]}", raises=FAILURES, strict=True))
            break
    return request.param


@pytest.fixture
def service() -> Iterator[HttpFake]:
    with serving(models=[MODEL]) as service:
        yield service


@pytest.fixture
def elsewhere() -> Iterator[HttpFake]:
    """Another service, which nobody named to the client."""
    with serving(models=[MODEL]) as service:
        yield service


@pytest.fixture
def rerank(client: Client, service: HttpFake) -> Rerank:
    """Rerank texts, and get the position and the score of each that came back."""

    def rerank(
        query: str, texts: Sequence[str], top_n: Any = ALL, batch: int | None = None, **settings: Any
    ) -> list[tuple[int, float]]:
        given = {"base_url": f"http://{service.address}/v1", "top_n": top_n} | settings
        if given["base_url"] is None:
            del given["base_url"]
        if batch is not None:
            given["max_batch_size"] = batch
        return [client.pair(result) for result in client.reranked(query, client.items(texts), **given)]

    return rerank
