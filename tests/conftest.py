"""What no test has of the person who runs it."""

from contextlib import suppress

import pytest

with suppress(ImportError):  # environments for one kind of test may lack it
    from hypothesis import settings

    settings.register_profile("unhurried", deadline=None)  # no example may fail because the machine is busy
    settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's key, addresses and proxy from the test, and what the test sets from the next one."""
    proxies = [form for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for form in (name, name.lower())]
    for name in ("NVIDIA_API_KEY", "NVIDIA_BASE_URL", "NVRERANK_CATALOG_URL", *proxies):
        monkeypatch.setenv(name, "set, so that the absence of it is put back after the test")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NVIDIA_USAGE_TELEMETRY_ENABLED", "0")
