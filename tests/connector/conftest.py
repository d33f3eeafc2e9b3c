"""The tests here write `connector` for the package under test: see tests/connector_alias.py."""

import connector_alias
import pytest

connector_alias.install()

from asking import Recorder  # noqa: E402
from fake_service import FakeService  # noqa: E402
from llama_index.core.instrumentation import get_dispatcher  # noqa: E402


@pytest.fixture(autouse=True)
def no_certificates_of_the_person_who_runs_the_tests(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def a_slow_machine_may_wait_longer_for_a_cache(monkeypatch):
    monkeypatch.setattr("connector.score_cache.WAIT", 60.0)


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture(params=["sync", "async"])
def way(request):
    return request.param


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 0.0)


@pytest.fixture
def recorder():
    handler, dispatcher = Recorder(events=[]), get_dispatcher()
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers.remove(handler)
