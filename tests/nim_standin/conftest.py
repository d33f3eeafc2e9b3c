"""What the tests of the stand-in share: its model, and services that are asked without a socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="session")
def model() -> Any:
    from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

    model = RelevanceModel.load(threads=2)
    model.close = lambda: None  # type: ignore[method-assign] # every service closes its model, and all share this one
    return model


@pytest.fixture
def connect(model: Any) -> Any:
    """Ask a service that imitates `behaviour`; `load` gives its scorer, and `loaded=False` does not wait for it."""
    from nvrerank_helpers.nim_standin.app import create_app
    from nvrerank_helpers.nim_standin.profiles import PROFILES
    from nvrerank_helpers.nim_standin.scoring.engine import Engine
    from nvrerank_helpers.nim_standin.server.service import StandInService

    @asynccontextmanager
    async def connect(
        behaviour: str = "nim-1.10", load: Callable[[], Any] = lambda: model, loaded: bool = True, **options: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        service = StandInService(Engine(load), profile=PROFILES[behaviour], **options)
        app = create_app(service)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://standin") as client,
        ):
            client.engine = service.engine  # type: ignore[attr-defined]
            if loaded:
                service.engine.loaded.result(timeout=60)
            yield client

    return connect


@pytest.fixture
def standin() -> Any:
    """Rank numbers without a model, behind the real fault machinery."""
    from tiny_standin import TinyStandIn

    return TinyStandIn()


@pytest.fixture
async def client(standin: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with standin.client() as client:
        yield client
