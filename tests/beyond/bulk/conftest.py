"""One Ray for all tests that do not stop it, and a service."""

import os
import signal

import pytest
from number_service import KEY, NumberService

from nvrerank_helpers.bulk import use_ray


def pytest_configure(config):
    """Ignore Ray's warnings about itself: settings that it copies, and processes that it leaves to the kernel."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:ray")
    config.addinivalue_line("filterwarnings", "ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(scope="session", autouse=True)
def allow_interrupts():
    """Let Ctrl-C reach the commands under test: a job in the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ray():
    """Start a Ray whose workers find a key in their environment."""
    before = os.environ.get("NVIDIA_API_KEY")
    os.environ["NVIDIA_API_KEY"] = KEY
    with use_ray(4):
        if before is None:
            del os.environ["NVIDIA_API_KEY"]
        else:
            os.environ["NVIDIA_API_KEY"] = before
        import ray

        yield ray


@pytest.fixture
def service(tmp_path):
    """Run a service that answers at once."""
    service = NumberService(tmp_path / "asked.txt")
    yield service
    service.close()
