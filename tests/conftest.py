"""What no test has of the person who runs it."""

import pytest


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's key, addresses and proxy from the test, and what the test sets from the next one."""
    for name in ("NVIDIA_API_KEY", "NVIDIA_BASE_URL", "NVRERANK_CATALOG_URL"):
        monkeypatch.setenv(name, "set, so that the absence of it is put back after the test")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "0")
