"""The tests here write `connector` for the package under test: see tests/connector_alias.py."""

import connector_alias
import pytest

connector_alias.install()


@pytest.fixture(autouse=True)
def environment_without_proxies(monkeypatch):
    """Keep the proxies and certificates of the person who runs the tests out of them."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
