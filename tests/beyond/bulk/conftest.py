"""One Ray for all tests that do not end it, and services to ask."""

import os
import signal

import pytest
from number_service import KEY, NumberService

from nvrerank_helpers.bulk.ray_cluster import running_ray


def pytest_configure(config):
    """Let Ray warn of its own affairs: settings that it copies itself, and servers that it leaves to the kernel."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:ray")
    config.addinivalue_line("filterwarnings", "ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heard():
    """Have the commands under test hear Ctrl-C: what runs in the background ignores it, as do those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ray():
    """Have a Ray that runs, whose workers find a key in their environment."""
    before = os.environ.get("NVIDIA_API_KEY")
    os.environ["NVIDIA_API_KEY"] = KEY
    with running_ray(4):
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
